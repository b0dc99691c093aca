"""F1 of classes from counts, which add up over samples, for many choices of samples at once."""

from __future__ import annotations

import torch
from torch import Tensor


def class_counts(truth: Tensor, predicted: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many samples of each class are predicted rightly, predicted, and there, each (R, C).

    Args:
        truth: Which classes each sample has, shape (N, C).
        predicted: Which ones are predicted, shape (N, C).
        weights: How often each sample counts in each of R choices of samples, shape (R, N).
    """
    marks = torch.cat([truth & predicted, predicted, truth], dim=1)
    right, found, there = (weights @ marks.to(weights.dtype)).chunk(3, dim=1)
    return right, found, there


def f1_of(right: Tensor, predicted: Tensor, there: Tensor) -> Tensor:
    """Return the F1 of counts; it is 0 for a class that is neither predicted nor there."""
    return 2 * right / (predicted + there).clamp(min=1)


def weighted_f1_of(right: Tensor, predicted: Tensor, there: Tensor) -> Tensor:
    """Return the mean F1 (R,) of counts (R, C), in which classes weigh as much as they have samples."""
    return (f1_of(right, predicted, there) * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
