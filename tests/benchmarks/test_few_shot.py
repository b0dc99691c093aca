"""Curves over the number of training rows: a short form of ``benchmarks/few_shot.py``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainables.tasks import Metric


@pytest.mark.full
def test_more_rows_are_other_trainings(squares, tiny_encoders, tmp_path: Path) -> None:
    few_shot: Any = importlib.import_module("few_shot")
    worth: Any = importlib.import_module("worth")
    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    sizes = {"epochs": 1, "batch_size": 8, "image_size": 32}
    jobs = list(few_shot.few_shot_jobs(str(squares), ["linear"], [6], 2, **encoders, **sizes))
    assert [(job.method, job.dataset.rpartition("@")[2], job.seed) for job in jobs] == [
        (method, rows, seed) for rows in ("6", "all") for method in ("probe", "linear") for seed in (0, 1)
    ]
    results = dict(map(worth.measure, jobs))
    losses = few_shot.curves_of(jobs, results, "loss")
    for curve in losses.values():
        assert {rows: len(values) for rows, values in curve.items()} == {"6": 2, "all": 2}
        assert sum(curve["all"]) < sum(curve["6"])
    few, whole = losses["probe"]["6"], losses["probe"]["all"]
    assert few[0] != few[1], "each seed draws other rows"
    assert whole[0] == whole[1]

    (metric, *_) = worth.task_of(squares).metrics
    curves = few_shot.curves_of(jobs, results, metric.name)
    shown = few_shot.table(curves, metric).splitlines()
    assert shown[0] == "| accuracy, % | 6 | all |"
    assert [line.split(" | ")[0] for line in shown[2:]] == ["| `probe`", "| `linear`"]
    assert shown[3].count("±") == 2
    few_shot.draw(curves, 48, metric, "squares", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 500


def test_an_error_has_no_percentages() -> None:
    few_shot: Any = importlib.import_module("few_shot")
    error = Metric("mae", "minimize", None, 0.0)
    shown = few_shot.table({"pmf": {"64": [0.5], "all": [0.25, 0.35]}}, error)
    assert shown.splitlines()[0] == "| mae | 64 | all |"
    assert shown.splitlines()[2] == f"| `pmf` | 0.500 | 0.300 ± {0.05 * 2**0.5:.3f} |"
