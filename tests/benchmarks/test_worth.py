"""The comparison of methods with the probe: a short form of ``benchmarks/worth.py``."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from trainables.data import FeatureCache
from trainables.errors import UserError
from trainables.tasks import Metric
from trainables.tasks.classification import Classification
from trainables.trial import run
from trainables.trial.trainer import Trainer


@pytest.fixture(scope="module")
def worth() -> Any:
    return importlib.import_module("worth")


@pytest.mark.parametrize(("name", "rows"), [("openclipart", 2402), ("openclipart_topics", 2731)])
def test_each_row_is_tested_once_and_titles_and_pictures_are_in_one_split(
    tmp_path, name: str, rows: int
) -> None:
    folds: Any = importlib.import_module("folds")
    tested: list[tuple[str, bytes]] = []
    for folder in folds.write_folds(tmp_path, 5, name):
        tables = {split: pq.read_table(folder / f"{split}.parquet") for split in folds.SPLITS}
        for column in ("text", "image"):
            values = {split: set(table[column].to_pylist()) for split, table in tables.items()}
            assert not values["test"] & (values["train"] | values["validation"])
            assert not values["validation"] & values["train"]
        tested += zip(tables["test"]["text"].to_pylist(), tables["test"]["image"].to_pylist(), strict=True)
    assert len(tested) == rows
    assert len(set(tested)) > rows - 15  # a few drawings are there twice, with the same title


def test_pairs_are_made_within_the_splits_of_a_fold(tmp_path) -> None:
    folds: Any = importlib.import_module("folds")
    plain = folds.write_folds(tmp_path, 5)[:1]
    (matched,) = folds.matched_folds(plain)
    for split in folds.SPLITS:
        before, after = (pq.read_table(folder / f"{split}.parquet") for folder in (*plain, matched))
        assert after["label"].to_pylist().count("match") == len(before) == len(after) / 2
        assert set(after["text"].to_pylist()) == set(before["text"].to_pylist())


def test_methods_are_compared_with_the_probe_row_by_row(worth, squares, tiny_encoders) -> None:
    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    sizes = {"epochs": 2, "batch_size": 8, "image_size": 32}
    folders = [squares, squares]
    jobs = [
        job
        for method in (worth.PROBE, "linear", "pmf")
        for job in worth.jobs_of("squares", folders, method, 2, **encoders, **sizes)
    ]
    assert [(job.method, job.fold, job.seed) for job in jobs[:4]] == [
        ("probe", 0, 0),
        ("probe", 1, 0),
        ("linear", 0, 0),
        ("linear", 0, 1),
    ]
    results = dict(map(worth.measure, [job for job in jobs if job.fold == 0]))
    results |= {key.replace(" 0 ", " 1 ", 1): found for key, found in results.items()}
    (metric, *_) = worth.task_of(squares).metrics
    rows = {row["method"]: row for row in worth.rows_of(results, "squares", 2, metric)}
    assert list(rows) == ["probe", "linear", "pmf"]
    probe = results["squares probe 0 0"]["right"]
    assert results["squares linear 0 1"]["start"] == probe  # before its first step it is the probe
    assert rows["probe"]["accuracy"] == pytest.approx(probe.count("1") / len(probe))
    for method in ("linear", "pmf"):
        right = [results[f"squares {method} 0 {seed}"]["right"] for seed in (0, 1)]
        mean = np.mean([each.count("1") / len(each) for each in right])
        assert rows[method]["accuracy"] == pytest.approx(mean)
        assert rows[method]["over_probe"][0] == pytest.approx(mean - rows["probe"]["accuracy"])
        assert rows[method]["memory"] > 0
    shown = worth.table(list(rows.values()), metric)
    assert shown.count("\n") == 4
    assert "accuracy, %" in shown


def test_another_precision_than_the_machines_is_trained(worth, squares, tiny_encoders, monkeypatch) -> None:
    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    settings = {**encoders, "epochs": 1, "batch_size": 8, "image_size": 32}
    monkeypatch.setattr(worth, "step_precision", lambda: "fp32")
    entered = []
    monkeypatch.setattr("emulation.products_in", lambda name: entered.append(name) or nullcontext())
    machine, other = (
        worth.jobs_of("squares", [squares], "pmf", 1, precision=precision, **settings)[0]
        for precision in (None, "bf16-frozen")
    )
    assert machine.spec.setting.precision == "fp32"
    assert other.spec.setting.precision == "bf16-frozen"
    _, found = worth.measure(other)
    assert entered == ["bf16-frozen"]
    assert set(found["right"]) <= {"0", "1"}


@pytest.mark.parametrize(("native", "searched_in"), [(False, "fp32"), (True, "bf16-frozen")])
def test_a_search_is_in_the_precision_of_the_trainings_unless_it_is_emulated(
    worth, run, squares, native: bool, searched_in: str, monkeypatch
) -> None:
    monkeypatch.setattr("trainables.step.precision.device_computes_in_bf16", lambda device: native)
    precisions = []

    def searched(folder: Path, samples: int, **settings: Any) -> None:
        precisions.append(settings["precision"])
        raise UserError("that is all")

    monkeypatch.setattr(worth, "searched", searched)
    monkeypatch.setattr(worth, "folds_of", lambda dataset, folds: [squares])
    monkeypatch.setattr(worth, "jobs_of", lambda *_, **__: [])
    with pytest.raises(UserError, match="that is all"):
        run("worth", "--precision", "bf16-frozen", "--nas", "2")
    assert precisions == [searched_in]


def test_seconds_are_those_of_training_alone(worth, squares, tiny_encoders, monkeypatch) -> None:
    clock = [0.0]

    def taking(seconds: float, of: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            clock[0] += seconds
            return of(*arguments, **named)

        return call

    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    (job,) = worth.jobs_of(
        "squares", [squares], "linear", 1, **encoders, epochs=2, batch_size=8, image_size=32
    )
    monkeypatch.setattr(worth, "time", SimpleNamespace(process_time=lambda: clock[0]))
    monkeypatch.setattr(run, "start_head", taking(1, run.start_head))
    monkeypatch.setattr(Trainer, "train_epoch", taking(10, Trainer.train_epoch))
    monkeypatch.setattr(FeatureCache, "features", taking(100, FeatureCache.features))
    monkeypatch.setattr(run.TrialRun, "evaluate", taking(1000, run.TrialRun.evaluate))
    _, found = worth.measure(job)
    assert found["seconds"] == 1 + 2 * 10
    assert clock[0] > 2 * 1000 + 100


def test_the_best_of_a_search_is_compared_with_the_first_point_at_equal_seeds(worth) -> None:
    found = {"start": "0000", "seconds": 1.0, "memory": 0.5}
    results = {
        f"toy {method} {fold} {seed}": {**found, "right": right}
        for method, right, seeds in (("pmf", "1000", 3), (worth.NAS, "1110", 2))
        for fold in range(2)
        for seed in range(seeds)
    }
    (metric, *_) = Classification.metrics
    first, best = worth.rows_of(results, "toy", 2, metric)
    assert "over_first" not in first
    assert best["over_first"][0] == pytest.approx(0.5)
    assert "better than its first point by +50.0 ±" in worth.table([first, best], metric)
    del results["toy pmf 1 0"], results["toy pmf 1 1"]  # the only seed left was not trained by both
    *_, best = worth.rows_of(results, "toy", 2, metric)
    assert best["over_first"] is None


def test_the_fastest_training_of_a_fold_counts(worth) -> None:
    seconds = {(0, 0): 5.0, (0, 1): 7.0, (1, 0): 9.0, (1, 1): 3.0}  # by fold and seed
    results = {
        f"toy pmf {fold} {seed}": {"start": "00", "right": "01", "memory": 0.5, "seconds": taken}
        for (fold, seed), taken in seconds.items()
    }
    (row,) = worth.rows_of(results, "toy", 2, Classification.metrics[0])
    assert row["seconds"] == (5 + 3) / 2


def test_a_search_that_ends_at_its_first_point_needs_no_other_training(worth) -> None:
    def job(method: str, fold: int, layers: int) -> Any:
        return worth.Job("toy", method, fold, 0, None, {"n_fusion_layers": layers}, 0.5)

    jobs = [job("pmf", 0, 2), job("pmf", 1, 2), job(worth.NAS, 0, 2), job(worth.NAS, 1, 3)]
    assert worth.trained_as_first(jobs) == {"toy pmf_nas 0 0": "toy pmf 0 0"}
    assert worth.trained_as_first(jobs[2:]) == {}


@pytest.mark.parametrize("per_fold", [3, 1], ids=["rows", "folds"])
def test_a_metric_may_be_an_error_or_no_mean_over_rows(worth, per_fold: int) -> None:
    metric = Metric("mae", "minimize", None, 0.0)
    errors = {"probe": 0.5, "pmf": 0.2}
    results = {
        f"toy {method} {fold} 0": {
            "right": [error + 0.01 * fold] * per_fold,
            "start": [0.4] * per_fold,
            "seconds": 1.0,
            "memory": 0.5,
        }
        for method, error in errors.items()
        for fold in range(2)
    }
    probe, pmf = worth.rows_of(results, "toy", 2, metric)
    assert probe["mae"] == pytest.approx(0.505)
    assert pmf["mae"] == pytest.approx(0.205)
    assert pmf["over_probe"] == [pytest.approx(0.3), pytest.approx(0, abs=1e-12)]
    assert pmf["over_start"][0] == pytest.approx(0.4 - 0.205)
    assert "| mae |" in worth.table([probe, pmf], metric)


def test_what_rows_contribute_to_the_first_metric_is_kept(worth) -> None:
    labels = torch.tensor([0, 1, 1])
    outputs = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    task = Classification(("a", "b"))
    assert worth.row_results(task, outputs, labels) == "110"
    outputs_of = {"loss": pytest.approx([0.126928, 0.126928, 2.126928]), "macro_f1": [pytest.approx(2 / 3)]}
    for name, expected in outputs_of.items():
        first = [metric for metric in task.metrics if metric.name == name]
        other = SimpleNamespace(metrics=first, row_values=task.row_values, score=task.score)
        assert worth.row_results(other, outputs, labels) == expected
