"""Fits a task's linear model exactly, with the strength of its penalty chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from trainables.progress import Tick, no_tick
from trainables.tasks import Task

#: Weights of the penalty, strongest first: two a decade. ``Task.fit_linear`` has the mean loss beside it, so
#: that one grid serves data sets of all sizes; scikit-learn's ``C`` is ``1 / (strength * N)``.
STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(1, -9, -1))

#: Columns whose moments are computed at once, in float64.
_COLUMNS = 64


@dataclass(frozen=True)
class LinearSolution:
    """A fitted linear model, whose outputs are ``features @ weight.T + bias``.

    Attributes:
        weight: Shape (D, F), in float32.
        bias: Shape (D,), in float32.
        strength: Weight of the penalty that was chosen.
        metrics: The task's metrics on the validation split.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    metrics: Mapping[str, float]

    def outputs(self, features: Tensor) -> Tensor:
        """Return the outputs (N, D) for features (N, F) in float32."""
        return torch.nn.functional.linear(features.float(), self.weight, self.bias)


def solve_linear(
    task: Task,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    strengths: Sequence[float] = STRENGTHS,
    tick: Tick = no_tick,
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
    """
    features, labels = train
    standard, mean, scale = _standardized(features)
    metric = task.metrics[0]
    start: tuple[Tensor, Tensor] | None = None
    best: LinearSolution | None = None
    best_loss = math.inf
    with threadpool_limits(torch.get_num_threads()):  # those of NumPy's libraries are others than PyTorch's
        for strength in sorted(strengths, reverse=True):
            start = task.fit_linear(standard, labels, strength, start)
            weight = start[0].double() / scale
            bias = start[1].double() - weight @ mean
            solution = LinearSolution(weight.float(), bias.float(), strength, {})
            outputs = solution.outputs(validation[0])
            metrics = task.tuned(outputs, validation[1]).score(outputs, validation[1])
            loss = -metrics[metric.name] if metric.direction == "maximize" else metrics[metric.name]
            if best is None or loss < best_loss:
                best, best_loss = replace(solution, metrics=metrics), loss
            tick()
    assert best is not None
    return best


def _standardized(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return standardized features (N, F) in float32, with the means and scales (F,) in float64.

    As in scikit-learn's ``StandardScaler``, the scale of a column that is constant but for rounding is 1. So
    is that of a column that is constant next to the others: its weight would be so large that fine-tuning,
    which changes features, could make the outputs infinite.
    """
    few_columns = features.split(_COLUMNS, dim=1)
    moments = [torch.var_mean(columns.double(), dim=0, correction=0) for columns in few_columns]
    variance, mean = (torch.cat(parts) for parts in zip(*moments, strict=True))
    rounding = torch.finfo(torch.float64).eps * len(features)
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    constant |= variance <= torch.finfo(torch.float32).eps ** 2 * variance.median()
    scale = variance.sqrt().masked_fill(constant, 1.0)
    standard = torch.from_numpy(np.array(features.numpy(), dtype=np.float32))
    return standard.sub_(mean).div_(scale), mean, scale
