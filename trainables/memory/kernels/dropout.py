"""Dropout as on a GPU, which keeps one byte an element for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ATEN = torch.ops.aten


def dropout(input: Tensor, p: float, train: bool) -> Any:
    """Return the input with a share ``p`` of its elements set to 0, where a GPU has a kernel of its own.

    The fused kernel saves a boolean mask. A CPU saves the noise that it multiplies by, in the input's format.
    Other kinds of dropout, and ``dropout_``, are the same on both.

    Source: ``is_fused_kernel_acceptable`` and ``dropout`` in aten/src/ATen/native/Dropout.cpp.
    """
    if train and 0 < p < 1 and input.numel() > 0:
        return _ATEN.native_dropout(input, p, train)[0]
    return NotImplemented
