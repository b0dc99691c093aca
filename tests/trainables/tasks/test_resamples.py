"""Metrics of many resamples at once: each is what ``value`` says of the resample's rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainables.tasks import Task, get_task

ROWS = 60


def _cases() -> Iterator[tuple[str, Task, Tensor, Tensor]]:
    """Yield tasks with outputs and labels: with ties, and with what is rare, absent or everywhere."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(ROWS, 5, generator=generator)
    multilabel = get_task("multilabel").of_size(5)
    tags = (torch.rand(ROWS, 5, generator=generator) < torch.tensor([0.5, 0.2, 0.0, 0.02, 1.0])).byte()
    yield "tags", multilabel, outputs, tags
    yield "tags, tuned", replace(multilabel, thresholds=(-1.0, 0.0, 0.5, 1.0, 9.0)), outputs, tags
    yield "tags, ties", multilabel, outputs.round(), tags
    yield "tags, none", multilabel, outputs, torch.zeros_like(tags)
    yield "tags, one", get_task("multilabel").of_size(1), outputs[:, :1], tags[:, :1]
    classes = torch.randint(5, (ROWS,), generator=generator)
    classification = get_task("classification").of_size(5)
    yield "classes", classification, outputs, classes
    yield "classes, unseen", replace(classification, unseen=("only", "held-out")), outputs, classes + 1
    numbers = torch.randn(ROWS, 5, generator=generator)
    yield "numbers", get_task("regression").of_size(5), outputs, numbers
    constant = torch.zeros(ROWS, 1)
    constant[0] = 3.0
    dictionary = get_task("regression").of_size(1).to_dict() | {"range": [-3.0, 3.0]}
    rated = get_task("regression").from_dict(dictionary)
    yield "rating", rated, outputs[:, :1], numbers[:, :1].round().clamp(-3, 3)
    yield "rating, constant but once", rated, outputs[:, :1], constant
    yield "rating, zeros", rated, outputs[:, :1], torch.zeros(ROWS, 1)
    ranks = torch.randint(1, 9, (ROWS, 2), generator=generator).float()
    pairs = torch.arange(ROWS)[:, None].expand(ROWS, 2)
    yield "ranks", get_task("retrieval").of_size(8), ranks, pairs


CASES = {
    f"{name}: {metric.name}": (task, metric.name, kept, labels)
    for name, task, kept, labels in _cases()
    for metric in task.metrics
    if task.row_values(metric.name, kept, labels) is None
}


@pytest.mark.parametrize(("task", "metric", "kept", "labels"), CASES.values(), ids=CASES)
def test_it_is_the_metric_of_the_drawn_rows(task, metric, kept, labels) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(ROWS, (30, ROWS), generator=generator)
    weights = torch.stack([torch.bincount(each, minlength=ROWS) for each in drawn]).double()
    weights[-1, ROWS // 2 :] = 0  # groups that are drawn together make resamples of other sizes
    weights[-2] = 1
    found = task.resampled_values(metric, kept, labels, weights)
    assert found.dtype == torch.float64
    assert torch.allclose(found, Task.resampled_values(task, metric, kept, labels, weights), atol=1e-6)
    assert found[-2].item() == pytest.approx(task.value(metric, kept, labels), abs=1e-6)


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_outputs_that_are_no_numbers_have_no_value(name) -> None:
    task = get_task(name).of_size(3)
    labels = task.example_labels(4)
    broken = torch.tensor([[0.0], [1.0], [2.0], [torch.nan]]).expand(4, 3)
    metric = {"multilabel": "map", "regression": "rmse"}[name]
    assert task.resampled_values(metric, broken, labels, torch.ones(2, 4).double()).isnan().all()
