"""Poolings: how one vector a sample is read from the tokens that an encoder puts out.

Each function takes tokens of shape (B, T, D) and a mask of shape (B, T), True where a token is real, or None
if no token is padding. It returns vectors of shape (B, D), into which no padding enters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _cls(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return the first token, [CLS]."""
    return tokens[:, 0]


def _mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of the real tokens; zeros if there are none."""
    if mask is None:
        return tokens.mean(dim=1)
    weights = mask.to(tokens.dtype)
    return (tokens * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _last(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return the last real token."""
    if mask is None:
        return tokens[:, -1]
    position = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * position).argmax(dim=1)
    return tokens[torch.arange(len(last), device=last.device), last]


def _max(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return the largest value of each feature among the real tokens; zeros if there are none."""
    if mask is None:
        return tokens.max(dim=1).values
    largest = tokens.masked_fill(~mask[..., None], -torch.inf).max(dim=1).values
    return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0)


#: The poolings by name.
POOLINGS: Mapping[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "cls": _cls,
    "mean": _mean,
    "last": _last,
    "max": _max,
}
