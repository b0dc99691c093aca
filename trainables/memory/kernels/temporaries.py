"""What a GPU's operators allocate beside their results, while they run.

What takes less than 1 MiB at the sizes of training is not in the table, such as the indices of sorts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from trainables.memory.kernels.attention_backward import cudnn_backward, efficient_backward, flash_backward
from trainables.memory.kernels.convolution import convolution, convolution_backward
from trainables.memory.kernels.device import CudaDevice
from trainables.memory.kernels.embedding import embedding_backward
from trainables.memory.kernels.reduction import reduction

_ATEN = torch.ops.aten

Temporaries = Callable[..., Sequence[int]]


def temporaries(
    device: CudaDevice, operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Sequence[int]:
    """Return the bytes that an operator allocates beside its results, in order.

    They exist beside the results until the operator ends, except that a negative number frees an earlier
    allocation of that size.

    Args:
        device: The GPU.
        operator: An operator as it reaches the outermost dispatch mode.
        args: Its arguments.
        kwargs: Its named arguments.
    """
    rule = _RULES.get(operator)
    return () if rule is None else rule(device, *args, **kwargs)


def in_order(operator: OpOverload, results: Any) -> Any:
    """Return what an operator returns, with several results in the order in which a GPU allocates them.

    Source: ``dropout_cuda`` in aten/src/ATen/native/cuda/Dropout.cu, which allocates the mask first.
    """
    return results[::-1] if operator is _ATEN.native_dropout.default else results


def _softmax(device: CudaDevice, input: Tensor, *_: Any) -> Sequence[int]:
    """Source: ``host_softmax`` in aten/src/ATen/native/cuda/SoftMax.cu."""
    return _copies(input)


def _softmax_backward(device: CudaDevice, grad: Tensor, output: Tensor, *_: Any) -> Sequence[int]:
    """The product of gradient and output. Source: ``softmax_backward_cuda_out`` in SoftMax.cu."""
    return [grad.nbytes, *_copies(grad), *_copies(output)]


def _log_softmax_backward(device: CudaDevice, grad: Tensor, output: Tensor, *_: Any) -> Sequence[int]:
    """Source: ``host_softmax_backward`` in SoftMax.cu."""
    return [*_copies(grad), *_copies(output)]


def _safe_softmax(device: CudaDevice, input: Tensor, dim: int, *_: Any) -> Sequence[int]:
    """Which scores are minus infinity, and in which rows all are.

    Source: ``_safe_softmax`` in aten/src/ATen/native/transformers/attention.cpp.
    """
    return [input.numel(), input.numel() // max(input.shape[dim], 1)]


def _layer_norm(device: CudaDevice, input: Tensor, *_: Any) -> Sequence[int]:
    """Source: ``layer_norm_cuda`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu."""
    return _copies(input)


def _layer_norm_backward(
    device: CudaDevice,
    grad: Tensor,
    input: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    wanted: Sequence[bool],
) -> Sequence[int]:
    """Partial sums of the weight's and the bias's gradient, for many short rows.

    Source: ``layer_norm_backward_cuda``, ``LaunchGammaBetaBackwardCUDAKernel`` in layer_norm_kernel.cu.
    """
    sizes = [*_copies(grad), *_copies(input)]
    width = prod(shape)
    rows = input.numel() // max(width, 1)
    if rows > 64 * 1024 and width // 32 < device.multiprocessors / 2:
        blocks = min(32 * 1024 // ceil(width / 32), ceil(rows / 32))
        sizes += [blocks * width * input.element_size()] * sum(wanted[1:])
    return sizes


def _matrix_product(device: CudaDevice, *factors: Any, **_: Any) -> Sequence[int]:
    """Copies of factors in whose layout cuBLAS cannot read them: neither rows nor columns are dense.

    Source: ``prepare_matrix_for_cublas`` in aten/src/ATen/native/cuda/Blas.cpp and
    ``prepare_batch_matrix_for_cublas`` there.
    """
    return [f.nbytes for f in factors if isinstance(f, Tensor) and not _is_matrix_for_cublas(f)]


def _sum_of_product(device: CudaDevice, addend: Tensor, *factors: Any, **_: Any) -> Sequence[int]:
    """The addend is copied into the result. Source: ``addmm_out_cuda_impl`` in Blas.cpp."""
    return _matrix_product(device, *factors)


def _is_matrix_for_cublas(matrix: Tensor) -> bool:
    *_, rows, columns = matrix.shape
    *_, down, along = matrix.stride()
    return (along == 1 and down >= max(1, columns)) or (down == 1 and along >= max(1, rows))


def _copies(tensor: Tensor) -> list[int]:
    """Return the size of a dense copy, if one is needed."""
    return [] if tensor.is_contiguous() else [tensor.nbytes]


_RULES: dict[OpOverload, Temporaries] = {
    _ATEN._softmax.default: _softmax,
    _ATEN._log_softmax.default: _softmax,
    _ATEN._softmax_backward_data.default: _softmax_backward,
    _ATEN._log_softmax_backward_data.default: _log_softmax_backward,
    _ATEN._safe_softmax.default: _safe_softmax,
    _ATEN.native_layer_norm.default: _layer_norm,
    _ATEN.native_layer_norm_backward.default: _layer_norm_backward,
    _ATEN.sum.default: reduction,
    _ATEN.sum.dim_IntList: reduction,
    _ATEN.mean.default: reduction,
    _ATEN.mean.dim: reduction,
    _ATEN.mm.default: _matrix_product,
    _ATEN.bmm.default: _matrix_product,
    _ATEN.addmm.default: _sum_of_product,
    _ATEN.baddbmm.default: _sum_of_product,
    _ATEN.embedding_dense_backward.default: embedding_backward,
    _ATEN.convolution.default: convolution,
    _ATEN.convolution_backward.default: convolution_backward,
    _ATEN._scaled_dot_product_cudnn_attention_backward.default: cudnn_backward,
    _ATEN._scaled_dot_product_flash_attention_backward.default: flash_backward,
    _ATEN._scaled_dot_product_efficient_attention_backward.default: efficient_backward,
}
