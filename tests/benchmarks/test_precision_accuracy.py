"""The comparison of precisions: a short form of ``benchmarks/precision_accuracy.py``."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_trainings_differ_in_nothing_but_the_precision(squares, tiny_encoders, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark: Any = importlib.import_module("precision_accuracy")
    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    sizes = {"epochs": 2, "batch_size": 8, "image_size": 32}
    jobs = benchmark.jobs_of("pmf", 2, dataset=str(squares), **encoders, **sizes)
    assert [job.seed for job in jobs] == [0, 1, 0, 1]
    assert [job.spec.setting.precision for job in jobs] == ["fp32"] * 2 + ["bf16-frozen"] * 2
    for full, half in zip(jobs[:2], jobs[2:], strict=True):
        setting = replace(half.spec.setting, precision="fp32")
        assert replace(half, spec=replace(half.spec, setting=setting)) == full
    row = benchmark.row_of("pmf", [benchmark.train(job) for job in jobs])
    assert len(row["fp32"]) == len(row["bf16-frozen"]) == 2
    assert all(0 <= accuracy <= 1 for accuracy in row["fp32"] + row["bf16-frozen"])
    assert row["mean_difference"] == pytest.approx(sum(row["bf16-frozen"]) / 2 - sum(row["fp32"]) / 2)
