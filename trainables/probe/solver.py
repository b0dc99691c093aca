"""Fits a task's linear model exactly, with the strength of its penalty chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from trainables.tasks import Task

#: Weights of the penalty, strongest first: two a decade. ``Task.fit_linear`` has the mean loss beside it, so
#: that one grid serves data sets of all sizes; scikit-learn's ``C`` is ``1 / (strength * N)``.
STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(4, -9, -1))


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
) -> LinearSolution:
    """Return the linear model of a task with the best first metric on the validation split.

    Features are standardized by mean and standard deviation of the training rows. Weight and bias of the
    solution contain that, so they take features as they come. Of equally good strengths, the largest wins.

    Args:
        task: The task.
        train: Features (N, F) and labels to fit.
        validation: Features (M, F) and labels to choose by.
        strengths: Weights of the penalty to try.
    """
    from sklearn.preprocessing import StandardScaler  # takes a while to import

    features, labels = train
    scaler = StandardScaler().fit(features.double().numpy())  # scales a constant column by 1
    mean, scale = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
    standard = (features.double() - mean) / scale
    metric = task.metrics[0]
    start: tuple[Tensor, Tensor] | None = None
    best: LinearSolution | None = None
    best_loss = math.inf
    with threadpool_limits(torch.get_num_threads()):  # those of NumPy's libraries are others than PyTorch's
        for strength in sorted(strengths, reverse=True):
            start = task.fit_linear(standard, labels, strength, start)
            weight = start[0] / scale
            bias = start[1] - weight @ mean
            solution = LinearSolution(weight.float(), bias.float(), strength, {})
            metrics = task.score(solution.outputs(validation[0]), validation[1])
            loss = -metrics[metric.name] if metric.direction == "maximize" else metrics[metric.name]
            if best is None or loss < best_loss:
                best, best_loss = LinearSolution(solution.weight, solution.bias, strength, metrics), loss
    assert best is not None
    return best
