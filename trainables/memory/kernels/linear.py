"""Linear layers as on a GPU."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Return ``input @ weight.T + bias``, where PyTorch adds the bias in place.

    It does so if the input is no matrix and not contiguous, such as some positions of all samples. While
    operators are observed, as in a prediction, it would add it to a copy.

    Source: ``linear`` in aten/src/ATen/native/Linear.cpp.
    """
    if bias is None or input.dim() == 2 or input.is_contiguous():
        return NotImplemented
    return (input @ weight.t()).add_(bias)
