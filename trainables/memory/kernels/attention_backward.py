"""What the backward pass of fused attention allocates beside the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from trainables.memory.kernels.device import CudaDevice

_FLOAT = 4  # bytes


def flash_backward(
    device: CudaDevice,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    *_: Any,
    **__: Any,
) -> Sequence[int]:
    """Row sums, and the queries' gradient in float32; gradients a query head if these share keys.

    Source: ``mha_bwd`` in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp and
    ``_flash_attention_backward`` in cuda/attention_backward.cu.
    """
    batch, heads, queries, width = query.shape
    rows = _up(queries, 128)
    wide = _up(width, 32 if width <= 128 else 64)
    sizes = [t.nbytes for t in (grad, out) if not t.transpose(1, 2).is_contiguous()]
    sizes += [batch * heads * rows * _FLOAT, batch * rows * heads * wide * _FLOAT]
    if key.shape[1] != heads:
        sizes += [t.nbytes // t.shape[1] * heads for t in (key, value)]
    return sizes


def cudnn_backward(device: CudaDevice, grad: Tensor, query: Tensor, *_: Any, **__: Any) -> Sequence[int]:
    """A workspace for row sums and the queries' gradient in float32.

    cuDNN's source is closed. This is what it asked for, to the byte, on a GPU of compute capability 9.0, for
    four combinations of heads, lengths and widths, with and without masks and dropout.
    """
    batch, heads, queries, width = query.shape
    return [batch * heads * queries * (width + 1) * _FLOAT + 256]


def efficient_backward(
    device: CudaDevice,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    out: Tensor,
    *_: Any,
    **__: Any,
) -> Sequence[int]:
    """Row sums, and a workspace in which the queries' gradient is added up in float32.

    Source, in aten/src/ATen/native/transformers/cuda: ``_efficient_attention_backward`` in
    attention_backward.cu, and ``AttentionBackwardKernel`` in mem_eff_attention/kernel_backward.h.
    """
    batch, heads, queries = query.shape[:3]
    half = query.dtype is not torch.float32
    sizes = [] if grad.transpose(1, 2).is_contiguous() else [grad.nbytes]
    row_sums = batch * heads * queries * _FLOAT
    if half:  # the kernel computes them, except on Volta
        sizes.append(row_sums)
    else:
        product = out.nbytes
        sizes += [product, row_sums, row_sums, -product, -row_sums]
    workspace = _workspace(device, query, key, value, half=half)
    return [*sizes, workspace] if workspace else sizes


def _workspace(device: CudaDevice, query: Tensor, key: Tensor, value: Tensor, *, half: bool) -> int:
    """Source: ``Params::workspace_size`` in kernel_backward.h."""
    if device.capability < (7, 0):
        return 0
    batch, heads, queries, width = query.shape
    depth = value.shape[-1]
    tall, wide, widest = _tile(device, max(width, depth), half=half)
    tile = tall * wide * _FLOAT + 16  # with a lock and a counter
    size = ceil(queries / tall) * ceil(width / wide) * tile
    if half and widest > tall:  # the gradients of keys and values do not fit into registers
        splits = max(1, min(ceil(key.shape[2] / wide), 200 // (batch * heads)))
        size += splits * wide * (_up(width, tall) + _up(depth, tall)) * _FLOAT
    return batch * heads * _up(size, 16)


def _tile(device: CudaDevice, width: int, *, half: bool) -> tuple[int, int, int]:
    """Return how many queries and keys a kernel treats at once, and the widest heads it is for.

    The largest tiles need the shared memory of a data center's GPU.

    Source: the kernels and their order in mem_eff_attention/kernels/cutlassB.h.
    """
    if width <= 64:
        return 64, 64, 64
    large = device.capability[0] in (9, 10) or device.capability == (8, 0)
    if half and width <= 96 and device.capability in ((8, 6), (8, 9)):
        return 128, 64, 96
    if width <= 128:
        return (128, 128 if half else 64, 128) if large else (64, 64, 128)
    return (128 if large else 64), 64, 65536


def _up(size: int, multiple: int) -> int:
    return ceil(size / multiple) * multiple
