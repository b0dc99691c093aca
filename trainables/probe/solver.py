"""Fits a task's linear model exactly, with the strength of its penalty chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from trainables.progress import Tick, no_tick
from trainables.tasks import Task

#: Weights of the penalty, strongest first: two a decade. ``Task.fit_linear`` has the mean loss beside it, so
#: that one grid serves data sets of all sizes; scikit-learn's ``C`` is ``1 / (strength * N)``.
STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(1, -9, -1))

#: Columns whose moments are computed at once, in float64.
_COLUMNS = 64


@dataclass(frozen=True)
class Moments:
    """Means and scales of features (N, F) as of scikit-learn's ``StandardScaler``, in float64.

    Attributes:
        mean: Shape (F,).
        scale: Shape (F,).
    """

    mean: Tensor
    scale: Tensor

    def standardized(self, features: Tensor) -> Tensor:
        """Return standardized features (N, F) in float32."""
        standard = torch.from_numpy(np.array(features.numpy(), dtype=np.float32))
        return standard.sub_(self.mean).div_(self.scale)


@dataclass(frozen=True)
class LinearSolution:
    """A fitted linear model, which maps features to ``features @ weight.T + bias``.

    Attributes:
        weight: Shape (D, F), in float32.
        bias: Shape (D,), in float32.
        strength: Weight of the penalty that was chosen.
        metrics: The task's metrics on the validation split.
        query: Moments of the query's features, if the task has a query. The model predicts these features,
            standardized.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    metrics: Mapping[str, float]
    query: Moments | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return all numbers that map features to outputs, by their names in ``ProbeNetwork``."""
        state = {"weight": self.weight, "bias": self.bias}
        if self.query is not None:
            state |= {"query_mean": self.query.mean, "query_scale": self.query.scale}
        return {name: values.contiguous() for name, values in state.items()}

    def outputs(self, features: Tensor, queries: Tensor | None = None) -> Tensor:
        """Return the task's outputs, shape (N, D), or (N, 2 D) with a query.

        Args:
            features: Features (N, F).
            queries: The query's features (N, D), if the task has a query. The outputs are then the predicted
                and the actual ones, each scaled to length 1.
        """
        found = F.linear(features.float(), self.weight, self.bias)
        if queries is None or self.query is None:
            return found
        return torch.cat([F.normalize(found), F.normalize(self.query.standardized(queries))], dim=1)


def solve_linear(
    task: Task,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    strengths: Sequence[float] = STRENGTHS,
    tick: Tick = no_tick,
    queries: tuple[Tensor, Tensor] | None = None,
) -> LinearSolution:
    """Return the linear model of a task with the best first metric on the validation split.

    Features are standardized by mean and standard deviation of the training rows. Weight and bias of the
    solution contain that, so they take features as they come. Of equally good strengths, the largest wins.

    Args:
        task: The task.
        train: Features (N, F) and labels to fit.
        validation: Features (M, F) and labels to choose by.
        strengths: Weights of the penalty to try.
        tick: Called after each strength.
        queries: The query's features (N, Q) and (M, Q), if the task has a query.
    """
    features, fitted = train
    moments = _moments(features)
    standard = moments.standardized(features)
    query, held_out = None, None
    if queries is not None:
        query, held_out = _moments(queries[0]), queries[1]
        fitted = query.standardized(queries[0])
    metric = task.metrics[0]
    start: tuple[Tensor, Tensor] | None = None
    best: LinearSolution | None = None
    best_loss = math.inf
    with threadpool_limits(torch.get_num_threads()):  # those of NumPy's libraries are others than PyTorch's
        for strength in sorted(strengths, reverse=True):
            start = task.fit_linear(standard, fitted, strength, start)
            weight = start[0].double() / moments.scale
            bias = start[1].double() - weight @ moments.mean
            solution = LinearSolution(weight.float(), bias.float(), strength, {}, query)
            kept = task.kept(solution.outputs(validation[0], held_out), validation[1])
            metrics = task.tuned(kept, validation[1]).score(kept, validation[1])
            loss = -metrics[metric.name] if metric.direction == "maximize" else metrics[metric.name]
            if best is None or loss < best_loss:
                best, best_loss = replace(solution, metrics=metrics), loss
            tick()
    assert best is not None
    return best


def _moments(features: Tensor) -> Moments:
    """Return the moments of features (N, F).

    The scale of a column that is constant but for rounding is 1, as in scikit-learn. So is that of a column
    that is constant next to the others: its weight would be so large that fine-tuning, which changes
    features, could make the outputs infinite.
    """
    few_columns = features.split(_COLUMNS, dim=1)
    moments = [torch.var_mean(columns.double(), dim=0, correction=0) for columns in few_columns]
    variance, mean = (torch.cat(parts) for parts in zip(*moments, strict=True))
    rounding = torch.finfo(torch.float64).eps * len(features)
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    constant |= variance <= torch.finfo(torch.float32).eps ** 2 * variance.median()
    return Moments(mean, variance.sqrt().masked_fill(constant, 1.0))
