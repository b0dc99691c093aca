"""Pooling functions that several families share."""

from __future__ import annotations

from torch import Tensor

from trainables.towers.base import Sequence


def masked_mean(sequence: Sequence) -> Tensor:
    """Return the mean over the real tokens of a sequence, shape (B, D)."""
    if sequence.mask is None:
        return sequence.tokens.mean(dim=1)
    weights = sequence.mask.to(sequence.tokens.dtype)
    return (sequence.tokens * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)
