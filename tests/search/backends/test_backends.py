"""Training and recorded trials answer a search through one interface."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from search.backends.base import Backend
from search.backends.training import PreparedTraining
from search.config import SearchConfig
from search.oneshot import OneShot
from search.setup import look_up, set_up
from tests.search.test_resume import _write_table
from trainables.errors import UserError
from trainables.step import Recipe
from trainables.trial.workbench import Workbench

QUIET = Console(quiet=True)


@pytest.fixture(params=["training", "recorded"])
def config(request: pytest.FixtureRequest, squares, tiny_encoders, tmp_path) -> SearchConfig:
    if request.param == "recorded":
        table = str(_write_table(tmp_path / "table.parquet"))
        return SearchConfig(space="pmf_nas", replay=table, target="cpu", epochs=2)
    return SearchConfig(
        space="pmf_nas",
        dataset=str(squares),
        text_encoder=str(tiny_encoders["bert"]),
        image_encoder=str(tiny_encoders["vit"]),
        image_size=32,
        batch_size=16,
    )


def test_a_search_asks_both_the_same(config) -> None:
    setup = set_up(look_up(config).in_precision("fp32"), QUIET)
    backend: Backend = setup.backend
    member: dict[str, Any] = setup.space.largest(backend.context)[0]
    memory = backend.predictor.predict_configuration(member)
    assert memory.target == setup.setting.target == config.step.target
    here = backend.predictor.predict_as_run(member, cached=False, target="cpu")
    assert memory.memory >= here.memory > 0
    assert {"accuracy", "loss"} <= set(backend.guess)
    assert any(name.endswith("fingerprint") for name in backend.details)
    assert backend.details.items() <= setup.details.items()
    prepared = backend.prepare(setup.space, QUIET)
    assert callable(prepared.trainable())
    assert (prepared.scorer is None) == (config.backend.replay is not None), "no test results are recorded"


def test_each_says_what_its_trials_learn_from(config) -> None:
    backend = look_up(config).backend
    found, details = backend.material, backend.details
    if config.backend.replay:
        assert found.dataset == config.backend.replay
        assert (found.fingerprint, found.modalities) == (details["replay.fingerprint"], {})
        assert found.rows["recorded"] > 0
    else:
        assert found.dataset == config.data.dataset
        assert found.fingerprint == details["dataset.fingerprint"]
        assert found.modalities == {"text": ("text", "text"), "image": ("image", "image")}
        assert found.label == ("label", "classification")
        assert found.rows == {split: details[f"dataset.{split}"] for split in found.rows}
    assert not found.included


def test_a_pooling_reaches_predictions_and_trials_and_is_a_fact(squares, tiny_encoders, tmp_path) -> None:
    text = shutil.copytree(tiny_encoders["bert"], tmp_path / "text")
    config = SearchConfig(
        space="linear",
        dataset=str(squares),
        text_encoder=str(text),
        image_encoder=str(tiny_encoders["vit"]),
        image_size=32,
        pooling=("image=mean",),
    )

    def facts() -> dict[str, Any]:
        setup = set_up(look_up(config).in_precision("fp32"), QUIET)
        prepared = setup.backend.prepare(setup.space, QUIET)
        assert isinstance(prepared, PreparedTraining)
        pooling = {m: setup.facts[f"encoder.{m}.pooling"] for m in ("text", "image")}
        assert prepared.spec.pooling == pooling
        assert {m: source.pooling for m, source in prepared.predictor.encoders.items()} == pooling
        return setup.facts

    before = facts()
    assert (before["encoder.text.pooling"], before["encoder.image.pooling"]) == ("cls", "mean")
    (text / "1_Pooling").mkdir()
    (text / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert facts() == {**before, "encoder.text.pooling": "mean"}, "a resumed search is refused"


@pytest.mark.parametrize("config", ["training"], indirect=True)
def test_trials_get_the_training_that_the_settings_name(config) -> None:
    recipe = {"warm_up": 0.1, "schedule": "linear", "head_learning_rate": 0.5, "keep": "average"}
    config = config.replace(weight_decay=0.1, clip_norm=2.0, label_smoothing=0.1, **recipe)
    found = look_up(config).in_precision("fp32")
    prepared: Any = found.backend.prepare(found.space, QUIET)
    setting = prepared.spec.setting
    assert (setting.weight_decay, setting.clip_norm, setting.label_smoothing) == (0.1, 2.0, 0.1)
    assert prepared.spec.recipe == Recipe(**recipe)


@pytest.mark.parametrize("config", ["training"], indirect=True)
def test_trials_get_the_rows_that_the_settings_name(config) -> None:
    found = look_up(config.replace(train_rows=12, seed=3)).in_precision("fp32")
    backend: Any = found.backend
    prepared: Any = backend.prepare(found.space, QUIET)
    assert prepared.rows == {"train": 12, "validation": 12, "test": 12}
    assert backend.details["dataset.train"] == 12, "a resumed search is refused if it is another number"
    bench = Workbench(prepared.spec, torch.device("cpu"))
    labels = bench.data.split("train").labels
    assert labels.bincount().tolist() == [4, 4, 4]
    assert torch.equal(labels, backend.labels("train"))
    with pytest.raises(UserError, match=r"--train-rows 49: dataset .* has 48 training rows"):
        look_up(config.replace(train_rows=49))


@pytest.mark.parametrize("config", ["training"], indirect=True)
def test_rows_that_are_left_out_are_so_on_every_machine(config, squares, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(squares, tmp_path / "some")
    table = pq.read_table(folder / "train.parquet")
    images = [None if row % 4 == 0 else image for row, image in enumerate(table["image"].to_pylist())]
    pq.write_table(table.set_column(1, "image", [images]), folder / "train.parquet")
    found = look_up(config.replace(dataset=str(folder), missing="skip")).in_precision("fp32")
    prepared: Any = found.backend.prepare(found.space, QUIET)
    assert prepared.rows == {"train": 36, "validation": 12, "test": 12}
    assert "rows: 36 train, 12 validation, 12 test (12 left out); text (" in prepared.understood[0]
    assert prepared.understood[1:] == (
        "warning: 12 of 12 validation rows have a text that is in train; "
        "12 of 12 test rows have a text that is in train",
    )
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "another machine"))
    bench = Workbench(prepared.spec, torch.device("cpu"))
    assert bench.data.key == prepared.spec.prepared
    assert len(bench.data.split("train")) == 36

    kept: Any = look_up(config.replace(dataset=str(folder))).in_precision("fp32").backend
    assert kept.details["dataset.image.missing"] == 12 / 72
    assert kept.details["dataset.fingerprint"] != found.backend.details["dataset.fingerprint"]
    with pytest.raises(UserError, match=r"--missing error: .* image is missing in 12 rows \(train row 0;"):
        look_up(config.replace(dataset=str(folder), missing="error"))


@pytest.mark.parametrize("config", ["training"], indirect=True)
@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"bad_rows": "skip"}, 36),
        ({"bad_rows": "missing"}, 48),
        ({"bad_rows": "missing", "missing": "skip"}, 36),
    ],
)
def test_rows_that_cannot_be_read_are_treated_so_on_every_machine(
    config, squares, tmp_path, monkeypatch, settings, rows
) -> None:
    folder = shutil.copytree(squares, tmp_path / "some")
    table = pq.read_table(folder / "train.parquet")
    images = [b"<html>" if row % 4 == 0 else image for row, image in enumerate(table["image"].to_pylist())]
    pq.write_table(table.set_column(1, "image", [images]), folder / "train.parquet")
    config = config.replace(dataset=str(folder), **settings)
    setup = set_up(look_up(config).in_precision("fp32"), QUIET)
    backend, prepared = setup.backend, setup.backend.prepare(setup.space, QUIET)
    assert isinstance(prepared, PreparedTraining)
    assert prepared.rows == {"train": rows, "validation": 12, "test": 12}
    assert setup.facts["dataset.train"] == rows, "a resumed search is refused if it is another number"
    assert setup.facts["dataset.image.missing"] == (12 / 72 if rows == 48 else 0)
    assert len(backend.labels("train")) == rows
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "another machine"))
    bench = Workbench(prepared.spec, torch.device("cpu"))
    assert bench.data.key == prepared.spec.prepared
    train = bench.data.split("train")
    assert torch.equal(train.labels, backend.labels("train"))
    assert train.present("image").sum() == 36

    with pytest.raises(UserError, match="12 of 72 rows cannot be read: 12 pictures: HTML"):
        set_up(look_up(config.replace(bad_rows="error")).in_precision("fp32"), QUIET)
    few = look_up(config.replace(bad_rows="skip", train_rows=40)).in_precision("fp32")
    with pytest.raises(UserError, match=r"--train-rows 40: .* has 36 training rows that can be read"):
        set_up(few, QUIET)


def test_a_supernet_is_not_replayed(tmp_path) -> None:
    table = _write_table(Path(tmp_path) / "table.parquet")
    config = SearchConfig(space="pmf_nas", replay=str(table), target="cpu", epochs=2)
    setup = set_up(look_up(config).in_precision("fp32"), QUIET)
    unused: Any = None
    with pytest.raises(UserError, match="recorded trials cannot stand in"):
        OneShot(setup, setup.backend.prepare(setup.space, QUIET), unused, unused, unused, QUIET)


def test_a_worker_loads_nothing_that_only_the_driver_needs() -> None:
    needless = {"matplotlib", "mlflow", "optuna", "sklearn"}
    program = f"import sys, search.backends.trainable; print(*({needless} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
