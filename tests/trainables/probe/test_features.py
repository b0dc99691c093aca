"""Pooled vectors are what ``linear`` reads, wherever they are computed from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainables.cache import cache_dir
from trainables.data import FeatureCache
from trainables.methods import build_method
from trainables.probe import pooled_features
from trainables.trial.workbench import TrialSpec, Workbench

CPU = torch.device("cpu")


def read(
    spec: TrialSpec, modality: str, split: str = "test", needed: tuple[int, ...] = ()
) -> Mapping[str, Tensor]:
    bench = Workbench(spec, CPU)
    context = bench.context(spec.setting)
    tower = context.towers[modality].fork(matrices=context.frozen_matrices)
    cache = FeatureCache(spec.feature_cache) if spec.feature_cache else None
    return pooled_features(bench.encoded(split, tower, spec.setting), cache, needed=needed)


def layers_on_file(split: str) -> list[int]:
    files = (cache_dir() / "features").glob(f"*-{split}-*.npy")
    return sorted(int(file.stem.rpartition("-")[2]) for file in files)


@pytest.fixture(params=["fp32", "bf16-frozen"])
def spec(trial_spec, request) -> TrialSpec:
    return replace(trial_spec, setting=replace(trial_spec.setting, precision=request.param))


@pytest.mark.parametrize("needed", [(), (1,), (0, 2)])
def test_they_are_what_linear_reads(spec, needed) -> None:
    found = [read(spec, modality, needed=needed) for modality in spec.encoders]
    bench = Workbench(spec, CPU)
    setting = spec.setting.as_run(cached=True)
    method = build_method("linear", {}, bench.context(setting))
    method.eval()
    with torch.no_grad(), setting.autocast(CPU):
        batches = bench.loader("test", method, setting).in_order()
        read_by_it = [[method.vector(batch.inputs, m) for m in spec.encoders] for batch in batches]
        expected = torch.cat([torch.cat(of_batch, dim=1) for of_batch in read_by_it])
    poolings = [bench.context(setting).towers[modality].pooling for modality in spec.encoders]
    vectors = torch.cat([of[pooling] for of, pooling in zip(found, poolings, strict=True)], dim=1)
    tolerance = 1e-5 if spec.setting.precision == "fp32" else 0.02
    torch.testing.assert_close(vectors, expected, atol=tolerance, rtol=tolerance)
    assert vectors.dtype == torch.float32


def test_the_cache_is_filled_with_what_trials_need_and_nothing_else(trial_spec) -> None:
    read(trial_spec, "text", needed=(0, 1))
    assert layers_on_file("test") == [0, 1]
    read(trial_spec, "text", split="validation")
    assert layers_on_file("validation") == []


def test_they_are_computed_once(trial_spec, monkeypatch) -> None:
    first = read(trial_spec, "image", needed=(1,))
    monkeypatch.setattr("trainables.probe.features._compute", lambda *_: pytest.fail("computed again"))
    again = read(trial_spec, "image")
    assert all(torch.equal(first[pooling], again[pooling]) for pooling in first)
    assert len(set(map(tuple, (v[0].tolist() for v in first.values())))) == len(first) > 1


def anew(spec: TrialSpec, split: str, needed: tuple[int, ...] = ()) -> Mapping[str, Tensor]:
    shutil.rmtree(cache_dir() / "pooled", ignore_errors=True)
    return read(spec, "image", split, needed)


@pytest.mark.parametrize("limit", [0, 10])
def test_without_room_in_the_feature_cache_they_are_the_same(trial_spec, limit) -> None:
    expected = anew(trial_spec, "test", needed=(2,))
    held = anew(trial_spec, "test")  # from the tokens on file
    without = anew(replace(trial_spec, feature_cache=limit), "validation", needed=(2,))
    assert layers_on_file("validation") == []
    again = anew(trial_spec, "validation", needed=(1,))
    for pooling in expected:
        torch.testing.assert_close(held[pooling], expected[pooling])
        torch.testing.assert_close(without[pooling], again[pooling])
