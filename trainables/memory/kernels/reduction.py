"""What a GPU's sums and means allocate: partial results, if several blocks of threads work on one result.

The buffer is as large as if every thread of a block worked on every result. It takes 96 MiB for the sum over
the rows of a matrix of 4096 x 3072 numbers, which is the gradient of a bias.

Source, in aten/src/ATen/native: ``ReduceConfig`` and ``setReduceConfig`` in cuda/Reduce.cuh, ``sum_functor``
in cuda/ReduceSumProdKernel.cu, ``make_reduction`` in ReduceOpsUtils.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

from trainables.memory.kernels.device import CudaDevice

_THREADS_A_BLOCK, _WARP = 512, 32
_FEWEST_VALUES, _MOST_VALUES = 16, 256  # for a thread
_INT = 4  # bytes
_HALF = (torch.float16, torch.bfloat16)


def reduction(
    device: CudaDevice,
    input: Tensor,
    dims: Sequence[int] | int | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Sequence[int]:
    """Return what a sum or a mean over some dimensions allocates beside its result.

    Args:
        device: The GPU.
        input: What is reduced.
        dims: The dimensions; none stands for all.
        keepdim: Whether the result has as many dimensions.
        dtype: Format of the result; None is that of the input, or int64 for integers.
        options: Named arguments, which may be the format.
    """
    dtype = dtype or options.get("dtype") or (input.dtype if input.is_floating_point() else torch.int64)
    itemsize, cast = input.element_size(), []
    if not (dtype is input.dtype or (input.dtype in _HALF and dtype is torch.float32)):
        itemsize = dtype.itemsize
        cast = [input.numel() * itemsize]
    if isinstance(dims, int):
        dims = [dims]
    reduced = {dim % input.dim() for dim in dims or range(input.dim())}
    return [*cast, *_partial_results(device, input, reduced, itemsize)]


@dataclass(frozen=True)
class _Axes:
    """Dimensions of an input, fastest first, adjacent ones joined: their lengths and strides in elements."""

    lengths: list[int]
    strides: list[int]

    @classmethod
    def of(cls, tensor: Tensor, dims: Sequence[int]) -> _Axes:
        axes = sorted((tensor.stride(dim), tensor.shape[dim]) for dim in dims if tensor.shape[dim] > 1)
        lengths: list[int] = []
        strides: list[int] = []
        for stride, length in axes:
            if lengths and strides[-1] * lengths[-1] == stride:
                lengths[-1] *= length
            else:
                lengths.append(length)
                strides.append(stride)
        return cls(lengths, strides)

    @property
    def size(self) -> int:
        return prod(self.lengths)


def _partial_results(device: CudaDevice, input: Tensor, dims: set[int], itemsize: int) -> Sequence[int]:
    """Return the sizes of the buffer of partial results and of the counters of finished blocks."""
    if not input.numel():
        return ()
    reduced = _Axes.of(input, [dim for dim in range(input.dim()) if dim in dims])
    kept = _Axes.of(input, [dim for dim in range(input.dim()) if dim not in dims])
    along = not kept.lengths or (bool(reduced.lengths) and reduced.strides[0] < kept.strides[0])
    results, values = kept.size, reduced.size
    width, height = (values, results) if along else (results, values)
    fastest = (reduced.strides or [1])[0] if along else kept.strides[0]
    vector = 1  # results that a thread works on
    if fastest == 1 and along:
        if width >= 128 and len(reduced.lengths) == 1:
            width //= 4 if itemsize > 2 else 8
    elif fastest == 1:
        vector = _vector(input, reduced, kept)
        width //= vector
    columns, rows = _block(width, height, _THREADS_A_BLOCK // vector)
    step_in, step_out = (columns, 1) if along else (1, columns)
    split = ceil(values / step_in) >= min(16 * rows, _MOST_VALUES)
    if split:
        step_in *= rows
    else:
        step_out *= rows
    a_thread = ceil(values / step_in)
    grid = ceil(results // vector / step_out)
    target = device.multiprocessors * (device.threads_a_multiprocessor // (columns * rows))
    if not split or a_thread < _MOST_VALUES or grid > target:
        return ()
    blocks = max(min(ceil(target / grid), ceil(a_thread / _FEWEST_VALUES)), ceil(a_thread / _MOST_VALUES))
    if blocks <= 1:
        return ()
    accumulator = max(itemsize, 4)
    buffer = accumulator * results * blocks * (1 if along else columns * vector)
    return [buffer, _INT * grid]


def _vector(input: Tensor, reduced: _Axes, kept: _Axes) -> int:
    """Return the number of results that a thread works on. Source: ``get_output_vec_size``."""
    multiples = [input.storage_offset(), kept.lengths[0], *reduced.strides, *kept.strides[1:]]
    return next(size for size in (4, 2, 1) if all(multiple % size == 0 for multiple in multiples))


def _block(width: int, height: int, threads: int) -> tuple[int, int]:
    """Return the columns and rows of a block of threads. Source: ``set_block_dimension``."""
    columns = _power_of_two(min(width, threads))
    rows = min(_power_of_two(min(height, threads)), threads // min(columns, _WARP))
    return min(columns, threads // rows), rows


def _power_of_two(most: int) -> int:
    return 1 << (max(most, 1).bit_length() - 1)
