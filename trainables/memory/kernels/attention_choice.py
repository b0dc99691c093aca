"""Which kernel a GPU uses for scaled dot-product attention.

PyTorch asks each kernel, in an order that depends on the GPU, whether it can compute this call, and takes the
first. The functions below are those of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp and, for what the
kernels have in common, of aten/src/ATen/native/transformers/sdp_utils_cpp.h. Jagged tensors, 8-bit floats and
AMD's GPUs are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.memory.kernels.device import CudaDevice

_NEWEST = (12, 1)


@dataclass(frozen=True)
class Attention:
    """The arguments of a call; see ``attention.scaled_dot_product_attention``."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    causal: bool
    grouped: bool

    @property
    def needs_gradient(self) -> bool:
        """Whether a backward pass follows. Source: ``input_requires_grad``."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.query, self.key, self.value


def choose_kernel(call: Attention, device: CudaDevice) -> str:
    """Return ``cudnn``, ``flash``, ``efficient`` or ``math``. Source: ``select_sdp_backend``.

    cuDNN comes first on Hopper and on the data center's Blackwell, in builds with cuDNN 9.15.1 or newer,
    which those of PyTorch 2.13 are (``check_prefer_cudnn_attention``). Elsewhere it comes after ``math``,
    which takes every call.
    """
    if device.capability[0] in (9, 10) and _can_use_cudnn(call, device):
        return "cudnn"
    if _can_use_flash(call, device):
        return "flash"
    if _can_use_efficient(call, device):
        return "efficient"
    return "math"


def _can_use_cudnn(call: Attention, device: CudaDevice) -> bool:
    """Source: ``can_use_cudnn_attention``."""
    return (
        torch.backends.cuda.cudnn_sdp_enabled()
        and not torch.are_deterministic_algorithms_enabled()
        and _is_batch_of_heads(call)
        and _of_types(call, _half_types(device))
        and _is_plain_mask(call)
        and (16 * call.dropout).is_integer()
        and _last_dimension_is_dense(call, ignore_single=True)
        and _same_heads(call, same_value_heads=False)
        and _is_of_cudnn_shape(call, device)
    )


def _is_of_cudnn_shape(call: Attention, device: CudaDevice) -> bool:
    """Source: ``check_cudnn_tensor_shapes``."""
    wide, deep = call.query.shape[-1], call.value.shape[-1]
    widest = 256 if device.capability == (9, 0) else 128
    if device.capability[0] == 10 and (wide, deep) == (192, 128):
        widest = 192
    queries, keys = call.query.shape[2], call.key.shape[2]
    return (
        max(wide, deep) <= widest
        and wide % 8 == deep % 8 == 0
        and keys != 1
        and not (call.dropout and queries == 1)
    )


def _can_use_flash(call: Attention, device: CudaDevice) -> bool:
    """Source: ``can_use_flash_attention``."""
    width = call.query.shape[-1]
    return (
        torch.backends.cuda.flash_sdp_enabled()
        and (8, 0) <= device.capability <= _NEWEST
        and _is_batch_of_heads(call)
        and call.mask is None
        and width == call.key.shape[-1] == call.value.shape[-1] <= 256
        and _can_train_flash(call, device)
        and not (call.causal and call.query.shape[-2] != call.key.shape[-2])
        and _of_types(call, _half_types(device))
        and _same_heads(call)
        and _last_dimension_is_dense(call, ignore_single=True)
    )


def _can_train_flash(call: Attention, device: CudaDevice) -> bool:
    """Source: ``check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120``."""
    small_memory = (8, 6) <= device.capability <= (8, 9) or (12, 0) <= device.capability <= (12, 1)
    width = call.query.shape[-1]
    fits = width <= 192 or (not call.dropout and width > 224)
    return fits or not (small_memory and call.needs_gradient)


def _can_use_efficient(call: Attention, device: CudaDevice) -> bool:
    """Source: ``can_use_mem_efficient_attention``, ``check_head_dim_size_mem_efficient``."""
    multiple = _matrix_alignment(call, device)
    width, deep = call.query.shape[-1], call.value.shape[-1]
    return (
        torch.backends.cuda.mem_efficient_sdp_enabled()
        and (5, 0) <= device.capability <= _NEWEST
        and _is_batch_of_heads(call)
        and width == call.key.shape[-1]
        and width % multiple == deep % multiple == 0 < min(width, deep)
        and _last_dimension_is_dense(call, ignore_single=False)
        and _same_heads(call)
        and _of_types(call, (torch.float32, *_half_types(device)))
    )


def _matrix_alignment(call: Attention, device: CudaDevice) -> int:
    """Return the number of elements that matrix products need rows to be a multiple of.

    Source: ``minimum_gemm_alignment``, ``use_tensor_cores``.
    """
    half = call.query.dtype in (torch.float16, torch.bfloat16)
    major = device.capability[0]
    tensor_cores = major >= 8 or (major == 7 and half)
    return max(4 if major >= 8 else 1, (8 if half else 4) if tensor_cores else 1)


def _half_types(device: CudaDevice) -> tuple[torch.dtype, ...]:
    """Source: ``check_dtypes_low_precision``."""
    return (torch.float16, torch.bfloat16) if device.capability >= (8, 0) else (torch.float16,)


def _of_types(call: Attention, types: tuple[torch.dtype, ...]) -> bool:
    """Source: ``check_tensor_dtype``."""
    return call.query.dtype == call.key.dtype == call.value.dtype and call.query.dtype in types


def _is_batch_of_heads(call: Attention) -> bool:
    """Source: ``check_tensor_shapes``, ``check_nonzero_sequence_lengths_dense``."""
    return all(tensor.dim() == 4 for tensor in call.tensors) and 0 not in (
        call.query.shape[2],
        call.key.shape[2],
    )


def _is_plain_mask(call: Attention) -> bool:
    """Source: ``check_attn_mask_shape``."""
    mask = call.mask
    if mask is None:
        return True
    full = (*call.query.shape[:3], call.key.shape[2])
    return (
        not mask.requires_grad
        and mask.dim() in (2, 4)
        and all(size in (1, most) for size, most in zip(mask.shape[::-1], full[::-1], strict=False))
    )


def _last_dimension_is_dense(call: Attention, *, ignore_single: bool) -> bool:
    """Source: ``check_last_dim_stride_equals_1_dense``."""
    dense = all(tensor.stride(-1) == 1 for tensor in call.tensors)
    dense = dense or (ignore_single and call.query.shape[-1] == 1)
    return dense and (call.mask is None or call.mask.stride(-1) == 1)


def _same_heads(call: Attention, *, same_value_heads: bool = True) -> bool:
    """Source: ``check_batch_size_and_num_heads_dense``, ``check_grouped_query_attention``."""
    (batch, heads), (key_batch, key_heads), (value_batch, value_heads) = (t.shape[:2] for t in call.tensors)
    if not batch == key_batch == value_batch:
        return False
    if not call.grouped:
        return heads == key_heads == value_heads
    if same_value_heads:
        return key_heads == value_heads and heads % key_heads == 0
    return heads % key_heads == heads % value_heads == 0
