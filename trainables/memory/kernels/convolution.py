"""What convolutions allocate beside their results.

cuDNN's source is closed. In half precision it computes with the channels last, and asks for a workspace with
copies of all that have them first. On a GPU of compute capability 9.0 it asked for that many bytes in the
forward pass, in one and two dimensions, and for more to compute the gradient of the weight, by a number that
only cuDNN knows. In float32 and for the gradient of the input it asked for less or nothing, which counts as
nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

from trainables.memory.kernels.device import CudaDevice
from trainables.memory.kernels.reduction import reduction

#: Channels are padded to a multiple of this.
_CHANNELS = 8


def convolution(
    device: CudaDevice,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *_: Any,
) -> Sequence[int]:
    """Return cuDNN's workspace for a convolution.

    Args:
        device: The GPU.
        input: Shape (B, C, ...).
        weight: Shape (O, C, ...).
        bias: Shape (O,).
        stride: Step of the window in each dimension.
        padding: Zeros at each end.
        dilation: Distance of the window's positions.
        transposed: Whether it is the transpose of a convolution.
    """
    if transposed:
        return ()
    spans = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    size = [(long + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for long, kernel, step, pad, gap in spans]
    return _workspace(input, weight, (len(input), len(weight), *size))


def convolution_backward(
    device: CudaDevice,
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> Sequence[int]:
    """Return copies of what is not contiguous, workspaces, and partial sums of the bias's gradient.

    Source: ``convolution_backward`` in aten/src/ATen/native/Convolution.cpp.

    Args:
        device: The GPU.
        grad: Gradient of the result.
        input: See ``convolution``.
        weight: See ``convolution``.
        bias_sizes: Shape of the bias.
        stride: See ``convolution``.
        padding: See ``convolution``.
        dilation: See ``convolution``.
        transposed: See ``convolution``.
        output_padding: Zeros at the end of the result.
        groups: Number of groups of channels.
        wanted: Whether the gradients of input, weight and bias are computed.
    """
    last = _has_channels_last(input) or _has_channels_last(weight)
    is_readable = _has_channels_last if last else Tensor.is_contiguous
    sizes = [tensor.nbytes for tensor in (grad, input, weight) if not is_readable(tensor)]
    if wanted[1] and not transposed:
        sizes += _workspace(input, weight, grad.shape)
    sizes += [-size for size in sizes]
    return [*sizes, *reduction(device, grad, [0, *range(2, grad.dim())])] if wanted[2] else sizes


def _workspace(input: Tensor, weight: Tensor, result: Sequence[int]) -> Sequence[int]:
    """Return the size of the copies with the channels last, and 16 bytes."""
    if input.dtype not in (torch.float16, torch.bfloat16) or _has_channels_last(input):
        return ()
    size = sum(
        first * ceil(channels / _CHANNELS) * _CHANNELS * prod(rest)
        for first, channels, *rest in (input.shape, weight.shape, result)
    )
    return [size * input.element_size() + 16]


def _has_channels_last(tensor: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    format = formats.get(tensor.dim())
    return format is not None and tensor.is_contiguous(memory_format=format)
