"""Scaled dot-product attention as on a GPU: one of three fused kernels, or plain operators.

A fused kernel saves its inputs, its output and one number per query (the logarithm of the softmax's
denominator). Plain operators also save the attention weights, and the mask of their dropout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.memory.kernels.attention_choice import Attention, choose_kernel
from trainables.memory.kernels.device import CudaDevice, active_device

_ATEN = torch.ops.aten

#: Half precision, in which the plain operators do not compute.
_HALF = (torch.float16, torch.bfloat16)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the attention output, shape (B, heads, Q, D).

    Source: ``scaled_dot_product_attention`` in aten/src/ATen/native/transformers/attention.cpp.

    Args:
        query: Shape (B, heads, Q, E).
        key: Shape (B, heads, K, E); fewer heads with ``enable_gqa``.
        value: Shape (B, heads, K, D).
        attn_mask: Boolean, or a bias of the scores, broadcastable to (B, heads, Q, K).
        dropout_p: Probability of dropping an attention weight.
        is_causal: Whether a query sees no later key.
        scale: Factor of the scores; None is ``E ** -0.5``.
        enable_gqa: Whether groups of query heads share a key and value head.
    """
    call = Attention(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    kernel = choose_kernel(call, active_device() or CudaDevice())
    bias = _as_bias(attn_mask, query.dtype)
    with_sums = call.needs_gradient
    if kernel == "cudnn":
        return _ATEN._scaled_dot_product_cudnn_attention(
            query, key, value, bias, with_sums, dropout_p, is_causal, False, scale=scale
        )[0]
    if kernel == "flash":
        padded = (_padded(tensor, 8) for tensor in (query, key, value))
        out = _ATEN._scaled_dot_product_flash_attention(
            *padded, dropout_p, is_causal, False, scale=_scale(query, scale)
        )[0]
        width = query.shape[-1]
        return out if out.shape[-1] == width else out[..., :width]
    if kernel == "efficient":
        if bias is not None:
            bias = _aligned(bias, 8).expand(*query.shape[:3], key.shape[2])
        return _ATEN._scaled_dot_product_efficient_attention(
            query, key, value, bias, with_sums, dropout_p, is_causal, scale=scale
        )[0]
    return _plain(query, key, value, bias, dropout_p, is_causal, scale, enable_gqa)


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """Return attention by plain operators, in full precision.

    PyTorch's own function adds the bias to the scores in place, except if operators are observed, which they
    are in a prediction.

    Source: ``_scaled_dot_product_attention_math`` in attention.cpp.
    """
    dtype = query.dtype
    if not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed():
        query, key, value = (t.float() if t.dtype in _HALF else t for t in (query, key, value))
    factor = math.sqrt(abs(_scale(query, scale)))
    query = query * (-factor if scale is not None and scale < 0 else factor)
    if is_causal:
        visible = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        bias = _as_bias(visible, query.dtype)
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    weights = query @ (key.transpose(-2, -1) * factor)
    if bias is not None:
        weights.add_(bias)
    weights = _ATEN._safe_softmax(weights, -1)
    if dropout_p > 0:
        weights = torch.dropout(weights, dropout_p, True)
    out = (weights @ value).to(dtype)
    weights.to(dtype)  # the second result, which nobody reads
    return out


def _scale(query: Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


def _as_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a boolean mask as a bias of the scores. Source: ``convert_boolean_attn_mask``."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    seen, hidden = (torch.scalar_tensor(score, dtype=dtype) for score in (0.0, -math.inf))
    return torch.where(mask, seen, hidden)


def _padded(tensor: Tensor, multiple: int) -> Tensor:
    """Return a tensor whose last dimension is padded to a multiple. Source: ``pad_last_dim``."""
    missing = -tensor.shape[-1] % multiple
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def _aligned(bias: Tensor, multiple: int) -> Tensor:
    """Return a bias with rows at multiples of some elements. Source: ``preprocess_mask``, ``pad_bias``."""
    *rows, last = bias.stride()
    if last == 1 and all(step % multiple == 0 for step in rows):
        return bias
    length = bias.shape[-1]
    return torch.nn.functional.pad(bias, (0, multiple - length % multiple))[..., :length]
