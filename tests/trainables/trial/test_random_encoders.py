"""Trials over encoders whose weights are random, which train with the method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.trials import PMF
from trainables.cache import cache_dir
from trainables.data import PreparedData, in_words, open_dataset, prepare
from trainables.probe import own_features
from trainables.step import Recipe, TrainingSetting
from trainables.towers import InputSizes, resolve_encoders
from trainables.trial.probing import run_probes
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec

SIZES = InputSizes(text_length=8, feature_length=4)


@pytest.fixture
def spec(workplace: Path, tiny_encoders: dict[str, Path]) -> TrialSpec:
    """Texts that say nothing, and vectors whose first number gives the class away."""
    rng = np.random.default_rng(0)
    modalities = {"text": "text", "face": {"column": "face", "kind": "features"}}
    for split, rows in (("train", 48), ("validation", 24), ("test", 12)):
        labels = rng.integers(0, 2, rows)
        vectors = rng.standard_normal((rows, 4, 6)).astype(np.float32)
        vectors[:, :, 0] += 4 * labels[:, None]
        columns = {
            "text": ["the square"] * rows,
            "face": vectors.tolist(),
            "label": [f"class {label}" for label in labels],
        }
        table = pa.table(columns).replace_schema_metadata({"paretofuse.modalities": json.dumps(modalities)})
        pq.write_table(table, workplace / f"{split}.parquet")
    names = {
        "text": str(tiny_encoders["bert"]),
        "face": "features:dim=6,width=16,depth=3,heads=2,max_length=4",
    }
    encoders, dataset = resolve_encoders(names), open_dataset(str(workplace))
    return TrialSpec(
        dataset=str(workplace),
        prepared=prepare(dataset, encoders, SIZES).key,
        task=dataset.task.to_dict(),
        encoders=names,
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        kinds={modality: encoder.kind for modality, encoder in encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=8, text_length=8, feature_length=4, target="cpu"),
        recipe=Recipe(warm_up=0, head_start="probe", keep="last"),
        epochs=3,
        feature_cache=10**8,
    )


def test_they_learn_are_saved_and_only_the_others_are_cached(spec, tmp_path) -> None:
    run = TrialRun(spec, replace(PMF, config={**PMF.config, "learning_rate": 3e-3}))
    assert set(run.trainer.train_loader.features) == {"text"}
    assert run.as_set
    before = {n: p.detach().clone() for n, p in run.method.tower("face").named_parameters()}
    results = [run.epoch() for _ in range(2)]
    assert results[-1]["accuracy"] > 0.9
    changed = {n for n, p in run.method.tower("face").named_parameters() if not torch.equal(p, before[n])}
    assert {n.split(".")[1] for n in changed} == {"embeddings", "layers", "layernorm"}
    (tmp_path / "saved").mkdir()
    run.save(tmp_path / "saved")
    resumed = TrialRun(spec, run.assignment)
    resumed.load(tmp_path / "saved")
    assert resumed.epoch()["train_loss"] == run.epoch()["train_loss"]


def test_a_probe_reads_what_they_encode(spec) -> None:
    """It reads the features themselves, of which any encoder with random weights keeps less."""
    rows = PreparedData(cache_dir() / "prepared" / spec.prepared).split("test")
    vectors = rows.inputs("face", torch.arange(len(rows)))["features"]
    found = own_features(PreparedData(cache_dir() / "prepared" / spec.prepared), "test", "face")
    assert torch.allclose(found["mean"], vectors.mean(dim=1))
    assert torch.equal(found["max"], vectors.amax(dim=1))
    probes = run_probes(spec)
    assert probes.joint.poolings["face"] == "mean"
    assert probes.single["face"].metrics["test"]["accuracy"] == 1
    assert probes.single["text"].metrics["test"]["accuracy"] < 0.8


def test_it_is_said_that_they_are_new(spec) -> None:
    said = in_words(open_dataset(spec.dataset), spec.sources(), {"train": 48, "validation": 24, "test": 12})
    assert "text (bert, pooling cls), face (features, features:dim=6," in said
    assert said.endswith(", new, trains with the method)")
