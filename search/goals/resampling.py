"""A task's metrics in each resample of a split's rows, see ``search.goals.luck``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.goals.luck import resampled_means, resampled_scores
from search.goals.pareto import Array
from trainables.tasks import Task


def resampled(metric: str, models: Sequence[tuple[Task, Tensor]], labels: Tensor) -> tuple[Array, Array]:
    """Return a metric of some models over the rows of a split, and in each resample of the rows.

    Args:
        metric: Name of the metric.
        models: For each model the task, as tuned to it, and what ``Task.kept`` has returned for the rows.
        labels: The rows' labels.

    Returns:
        Values, of shape (models,), and those in each resample, of shape (models, resamples). The number of
        resamples is ``RESAMPLES`` for a metric that is a mean over rows, else ``RESCORED``.
    """
    groups = _groups(models[0][0], labels)
    by_row = [task.row_values(metric, kept, labels) for task, kept in models]
    values = [each.double().numpy() for each in by_row if each is not None]
    if len(values) == len(models):
        together = np.stack(values)
        return together.mean(axis=1), resampled_means(together, groups)
    own = np.array([task.value(metric, kept, labels) for task, kept in models])
    return own, np.stack([_again(metric, *model, labels, groups) for model in models])


def _again(metric: str, task: Task, kept: Tensor, labels: Tensor, groups: NDArray[np.intp]) -> Array:
    """Return a metric that is no mean over rows in each resample, of shape (resamples,)."""

    def score(counts: Array) -> Array:
        return task.resampled_values(metric, kept, labels, torch.from_numpy(counts)).numpy()

    return resampled_scores(score, groups)


def _groups(task: Task, labels: Tensor) -> NDArray[np.intp]:
    """Return the numbers of the groups of rows that are drawn together, from 0 without gaps."""
    together = task.drawn_together(labels)
    if together is None:
        return np.arange(len(labels))
    return np.unique(together.numpy(), return_inverse=True)[1]
