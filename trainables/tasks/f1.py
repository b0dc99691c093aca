"""F1 of classes from counts, which add up over samples."""

from __future__ import annotations

import torch
from torch import Tensor


def marks(truth: Tensor, predicted: Tensor) -> Tensor:
    """Return what each sample adds to the counts of the classes, shape (N, 3 C).

    They are those of samples that are predicted rightly, that are predicted, and that are there.

    Args:
        truth: Which classes each sample has, shape (N, C).
        predicted: Which ones are predicted, shape (N, C).
    """
    return torch.cat([truth & predicted, predicted, truth], dim=1)


def f1_of(right: Tensor, predicted: Tensor, there: Tensor) -> Tensor:
    """Return the F1 of counts; it is 0 for a class that is neither predicted nor there."""
    return 2 * right / (predicted + there).clamp(min=1)
