"""Scaled dot-product attention.

Source of the rules, in aten/src/ATen/native/transformers: sdp_utils_cpp.h, attention.cpp, cuda/sdp_utils.cpp.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trainables.memory.kernels.saving import on_gpu, saved, saved_bytes

BATCH, HEADS, LENGTH, WIDTH = 2, 3, 40, 16
SUMS = 4 * BATCH * HEADS  # bytes of one float32 a query and head, for each position
KERNELS = {
    "ScaledDotProductFlashAttentionBackward0": "flash",
    "ScaledDotProductEfficientAttentionBackward0": "efficient",
    "ScaledDotProductCudnnAttentionBackward0": "cudnn",
}
HALF, FULL = torch.bfloat16, torch.float32


def inputs(dtype: torch.dtype, width: int = WIDTH, length: int = LENGTH, **options: Any) -> list[Tensor]:
    options.setdefault("requires_grad", True)
    return [torch.randn(BATCH, HEADS, length, width, dtype=dtype, **options) for _ in range(3)]


def kernel_of(out: Tensor) -> str:
    """Return the kernel that computed an attention's output."""
    node = out.grad_fn
    if node is not None and node.name() == "SliceBackward0":  # of what was padded
        node = node.next_functions[0][0]
    return KERNELS.get(node.name(), "math") if node is not None else "none"


def chosen(
    dtype: torch.dtype,
    *,
    capability: float = 8.0,
    mask: tuple[int, ...] | None = None,
    width: int = WIDTH,
    trained_mask: bool = False,
    **options: Any,
) -> str:
    with on_gpu(capability):
        bias = None if mask is None else torch.zeros(mask, dtype=dtype, requires_grad=trained_mask)
        return kernel_of(F.scaled_dot_product_attention(*inputs(dtype, width), bias, **options))


PADDING = (BATCH, 1, 1, LENGTH)


class TestChoice:
    def test_half_precision_without_a_mask_is_flash(self) -> None:
        assert chosen(HALF) == chosen(HALF, dropout_p=0.1) == chosen(HALF, is_causal=True) == "flash"

    def test_a_mask_or_full_precision_is_efficient(self) -> None:
        assert chosen(HALF, mask=PADDING) == chosen(FULL) == chosen(FULL, mask=PADDING) == "efficient"
        assert chosen(HALF, mask=PADDING, trained_mask=True) == "efficient"

    def test_flash_needs_ampere(self) -> None:
        assert chosen(HALF, capability=7.5) == "math"  # bfloat16 needs it, too
        assert chosen(torch.float16, capability=7.5) == "efficient"
        assert chosen(torch.float16, capability=8.0) == "flash"

    @pytest.mark.parametrize("capability", [9.0, 10.0])
    def test_cudnn_comes_first_on_hopper_and_blackwell(self, capability: float) -> None:
        assert chosen(HALF, capability=capability) == "cudnn"
        assert chosen(HALF, capability=capability, mask=PADDING) == "cudnn"
        assert chosen(FULL, capability=capability) == "efficient"

    def test_cudnn_takes_dropout_in_sixteenths_and_no_trained_mask(self) -> None:
        assert chosen(HALF, capability=9.0, dropout_p=0.125) == "cudnn"
        assert chosen(HALF, capability=9.0, dropout_p=0.1) == "flash"
        assert chosen(HALF, capability=9.0, mask=PADDING, trained_mask=True) == "efficient"

    def test_widths(self) -> None:
        assert chosen(HALF, width=12) == "flash"  # is padded
        assert chosen(HALF, width=12, mask=PADDING) == "math"  # rows of 16 bytes
        assert chosen(FULL, width=12) == "efficient"
        assert chosen(FULL, width=6) == "math"
        assert chosen(HALF, width=264) == "efficient"

    def test_wide_heads_need_much_shared_memory_to_train_flash(self) -> None:
        assert chosen(HALF, width=256, capability=8.0, dropout_p=0.1) == "flash"
        assert chosen(HALF, width=256, capability=8.6, dropout_p=0.1) == "efficient"
        assert chosen(HALF, width=256, capability=8.6) == chosen(HALF, width=192, capability=8.6) == "flash"
        assert chosen(HALF, width=200, capability=8.9) == "efficient"

    def test_what_the_user_switched_off_is_not_chosen(self) -> None:
        with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]):
            assert chosen(HALF) == chosen(FULL) == "math"

    def test_three_dimensions_are_not_fused(self) -> None:
        with on_gpu():
            query, key, value = (tensor.squeeze(0) for tensor in (t[:1] for t in inputs(HALF)))
            assert kernel_of(F.scaled_dot_product_attention(query, key, value)) == "math"

    def test_groups_of_heads(self) -> None:
        with on_gpu():
            query, key, value = inputs(HALF)
            few = (key[:, :1], value[:, :1])
            assert kernel_of(F.scaled_dot_product_attention(query, *few, enable_gqa=True)) == "flash"
            out = F.scaled_dot_product_attention(query.float(), *(t.float() for t in few), enable_gqa=True)
            assert kernel_of(out) == "efficient"


class TestSaved:
    """Beside the inputs: the output, a sum a query, and the numbers that dropout starts from."""

    def test_flash(self) -> None:
        with on_gpu():
            given = inputs(HALF)
            size = given[0].nbytes
            extra = saved_bytes(lambda: F.scaled_dot_product_attention(*given, dropout_p=0.1))
            assert extra == 4 * size + SUMS * LENGTH + 24

    def test_cudnn(self) -> None:
        with on_gpu(9.0):
            given = inputs(HALF)
            assert saved_bytes(lambda: F.scaled_dot_product_attention(*given), without=(*given,)) == (
                given[0].nbytes + SUMS * LENGTH + 16
            )

    def test_efficient_rounds_the_queries_up_to_32(self) -> None:
        with on_gpu():
            given = inputs(FULL)
            assert saved_bytes(lambda: F.scaled_dot_product_attention(*given), without=(*given,)) == (
                given[0].nbytes + SUMS * 64 + 16
            )

    def test_efficient_keeps_a_padding_mask_as_it_is(self) -> None:
        with on_gpu():
            given, mask = inputs(FULL), torch.zeros(PADDING)
            without = saved_bytes(lambda: F.scaled_dot_product_attention(*given))
            assert saved_bytes(lambda: F.scaled_dot_product_attention(*given, mask)) == without + mask.nbytes

    def test_efficient_pads_the_rows_of_a_mask_to_8(self) -> None:
        with on_gpu():
            given = inputs(FULL, length=37)
            mask = torch.zeros(37, 37)
            without = saved_bytes(lambda: F.scaled_dot_product_attention(*given))
            assert saved_bytes(lambda: F.scaled_dot_product_attention(*given, mask)) == without + 4 * 37 * 40

    def test_flash_keeps_padded_inputs(self) -> None:
        with on_gpu():
            given = inputs(HALF, width=12)
            out, found = saved(lambda: F.scaled_dot_product_attention(*given))
            assert out.shape[-1] == 12
            assert (BATCH, HEADS, LENGTH, 16) in found

    def test_without_gradient_there_are_no_sums(self) -> None:
        with on_gpu(), torch.no_grad():
            given = inputs(FULL, requires_grad=False)
            operator = torch.ops.aten._scaled_dot_product_efficient_attention
            assert operator(*given, None, False)[1].numel() == 0
            assert F.scaled_dot_product_attention(*given).shape == given[0].shape

    def test_math_computes_in_full_precision(self) -> None:
        with on_gpu():
            given = inputs(HALF, width=12)
            mask = torch.zeros(PADDING, dtype=HALF)
            out, found = saved(lambda: F.scaled_dot_product_attention(*given, mask, dropout_p=0.1))
            weights = (BATCH, HEADS, LENGTH, LENGTH)
            assert out.dtype is HALF
            assert found[weights] is torch.bool  # of dropout
            assert found[BATCH * HEADS, LENGTH, LENGTH] is FULL


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("capability", [7.5, 8.0, 9.0])
@pytest.mark.parametrize("masked", ["no", "bias", "bool"])
def test_gradients_flow(dtype: torch.dtype, capability: float, masked: str) -> None:
    with on_gpu(capability):
        given = inputs(dtype)
        mask = torch.zeros(PADDING, dtype=torch.bool if masked == "bool" else dtype)
        trained = mask.requires_grad_() if masked == "bias" else mask
        out = F.scaled_dot_product_attention(*given, None if masked == "no" else trained, dropout_p=0.125)
        out.sum().backward()
        for tensor in (*given, *([trained] if masked == "bias" else [])):
            assert tensor.grad is not None
            assert tensor.grad.shape == tensor.shape
            assert tensor.grad.dtype is tensor.dtype


def test_in_inference_mode() -> None:
    with on_gpu(), torch.inference_mode():
        query = torch.randn(BATCH, HEADS, LENGTH, WIDTH)
        assert F.scaled_dot_product_attention(query, query, query).shape == query.shape
