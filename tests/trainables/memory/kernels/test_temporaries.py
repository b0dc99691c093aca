"""What operators allocate beside their results. Each class names the source of its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.memory.kernels.saving import on_gpu, temporaries_of
from trainables.memory.kernels import CudaDevice, temporaries
from trainables.memory.storage_log import StorageLog

ATEN = torch.ops.aten
FLOAT = 4


def backward_temporaries(compute_capability: float, out: Tensor) -> list[int]:
    return temporaries_of(lambda: out.backward(torch.ones_like(out)), compute_capability)


class TestSoftmax:
    """aten/src/ATen/native/cuda/SoftMax.cu."""

    def test_backward_multiplies_gradient_and_output(self) -> None:
        with on_gpu():
            x = torch.randn(4, 6, requires_grad=True)
            assert backward_temporaries(8.0, x.softmax(-1)) == [x.nbytes]
            assert backward_temporaries(8.0, x.log_softmax(-1)) == []

    def test_copies_what_is_not_contiguous(self) -> None:
        with on_gpu():
            x = torch.randn(4, 6)
            assert temporaries_of(lambda: x.softmax(-1)) == []
            assert temporaries_of(lambda: x.t().softmax(-1)) == [x.nbytes]

    def test_safe_softmax_looks_for_hidden_rows(self) -> None:
        with on_gpu():
            x = torch.randn(4, 6)
            assert temporaries_of(lambda: ATEN._safe_softmax(x, -1)) == [24, 4]


class TestLayerNorm:
    """aten/src/ATen/native/cuda/layer_norm_kernel.cu."""

    def test_copies_what_is_not_contiguous(self) -> None:
        with on_gpu():
            norm, x = nn.LayerNorm(8), torch.randn(2, 5, 8, requires_grad=True)
            some = x[:, 1:]
            assert temporaries_of(lambda: norm(x)) == []
            assert temporaries_of(lambda: norm(some)) == [some.nbytes]
            assert backward_temporaries(8.0, norm(some)) == [some.nbytes]

    def test_many_short_rows_are_summed_in_parts(self) -> None:
        with on_gpu():
            norm, x = nn.LayerNorm(96), torch.randn(100_352, 96, requires_grad=True)
            parts = 100_352 // 32 * 96 * FLOAT
            assert backward_temporaries(8.0, norm(x)) == [parts, parts]
            norm.requires_grad_(False)
            assert backward_temporaries(8.0, norm(x)) == []


class TestReduction:
    """aten/src/ATen/native/cuda/Reduce.cuh. A GPU of capability 9.0 agrees on the first two numbers."""

    @pytest.mark.parametrize(
        ("rows", "width", "expected"),
        [
            # 3072 / 4 / 32 = 24 columns of blocks, 1024 values a thread: min(2112 / 24, 1024 / 16) = 64 rows
            (4096, 3072, [FLOAT * 3072 * 64 * 32 * 4, FLOAT * 24]),
            (1184, 3072, [FLOAT * 3072 * 19 * 32 * 4, FLOAT * 24]),  # 296 values: 19 blocks of 16
            (1000, 3072, []),  # 250 values a thread: fewer than 256
            (4096, 768, [FLOAT * 768 * 64 * 32 * 4, FLOAT * 6]),
            (4096, 770, [FLOAT * 770 * 32 * 32 * 2, FLOAT * 13]),  # rows of 770 are read in pairs
        ],
    )
    def test_gradient_of_a_bias(self, rows: int, width: int, expected: list[int]) -> None:
        with on_gpu(9.0):
            x = torch.randn(rows, width)
            assert temporaries_of(lambda: x.sum(0, keepdim=True), 9.0) == expected

    def test_half_precision_is_summed_in_full(self) -> None:
        with on_gpu(9.0):
            x = torch.randn(4096, 3072, dtype=torch.bfloat16)
            full = torch.float32
            expected = [FLOAT * 3072 * 64 * 32 * 4, FLOAT * 24]
            assert temporaries_of(lambda: x.sum(0), 9.0) == expected
            assert temporaries_of(lambda: x.sum(0, dtype=full), 9.0) == expected

    def test_along_rows(self) -> None:
        with on_gpu(9.0):
            x = torch.randn(64, 768)
            assert temporaries_of(lambda: x.sum(-1), 9.0) == temporaries_of(lambda: x.mean(-1), 9.0) == []

    def test_all_numbers(self) -> None:
        with on_gpu(9.0):
            found = temporaries_of(lambda: torch.randn(32, 128, 768).sum(), 9.0)
            # 512 threads would read 6144 numbers each; 6144 / 16 = 384 blocks share them
            assert found == [FLOAT * 384, FLOAT]

    def test_a_sum_of_integers_casts_them(self) -> None:
        with on_gpu():
            x = torch.ones(4, 6, dtype=torch.bool)
            assert temporaries_of(lambda: x.sum(0)) == [8 * 24]


class TestMatrixProduct:
    """``prepare_matrix_for_cublas`` in aten/src/ATen/native/cuda/Blas.cpp."""

    def test_rows_or_columns_must_be_dense(self) -> None:
        with on_gpu():
            x, y = torch.randn(4, 12), torch.randn(6, 5)
            half = x[:, ::2]
            assert temporaries_of(lambda: x[:, :6] @ y) == temporaries_of(lambda: x.t() @ x) == []
            assert temporaries_of(lambda: half @ y) == [half.nbytes]
            row = torch.randn(6).expand(4, 6)
            assert temporaries_of(lambda: torch.addmm(torch.randn(5), row, y)) == [row.nbytes]

    def test_batches(self) -> None:
        with on_gpu():
            x = torch.randn(2, 3, 8)
            assert temporaries_of(lambda: x.bmm(x.transpose(1, 2))) == []
            assert temporaries_of(lambda: x[..., ::2].bmm(torch.randn(2, 4, 5))) == [2 * 3 * 4 * FLOAT]


class TestEmbedding:
    """``embedding_dense_backward_cuda`` in Embedding.cu, ``embedding_backward_cuda_kernel``."""

    def gradient(self, count: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> list[int]:
        with on_gpu():
            weight = torch.randn(vocabulary, 768, dtype=dtype, requires_grad=True)
            out = F.embedding(torch.zeros(count, dtype=torch.long), weight)
            return backward_temporaries(8.0, out)

    def test_few_indices_are_not_sorted(self) -> None:
        assert self.gradient(3072, 30_522) == []

    def test_many_are_sorted_and_summed_in_parts_of_ten(self) -> None:
        found = self.gradient(4096, 30_522)
        assert found[:3] == [8 * 4096] * 3
        assert found[-1] == (409 + 4096) * 768 * FLOAT == 13_839_360
        assert sum(size for size in found if size < 0) == -8 * 4096 * 3  # range and buffer of the sort

    def test_few_different_ones_are_added_at_once(self) -> None:
        assert max(self.gradient(4096, 2)) == 16 * 4096  # only indices
        assert self.gradient(4096, 2, torch.bfloat16)[-1] == 2 * 768 * FLOAT


class TestConvolution:
    """``convolution_backward`` in aten/src/ATen/native/Convolution.cpp; cuDNN is closed."""

    def test_copies_gradients_that_are_not_contiguous(self) -> None:
        with on_gpu():
            conv = nn.Conv2d(3, 8, 4, 4, bias=False)
            out = conv(torch.randn(2, 3, 16, 16))
            assert backward_temporaries(8.0, out) == []
            out = conv(torch.randn(2, 3, 16, 16))
            tokens = out.flatten(2).transpose(1, 2).contiguous()
            assert backward_temporaries(8.0, tokens) == [out.nbytes, -out.nbytes]

    @pytest.mark.parametrize(
        ("shape", "layer", "workspace"),
        [
            ((32, 3, 224, 224), (nn.Conv2d, (3, 768, 16, 16)), 38_469_648),
            ((8, 80, 1000), (nn.Conv1d, (80, 384, 3, 1, 1)), 7_608_336),
        ],
    )
    def test_half_precision_has_the_channels_last(self, shape, layer, workspace) -> None:
        """As on a GPU of compute capability 9.0."""
        kind, sizes = layer
        with on_gpu():
            conv, x = kind(*sizes, dtype=torch.bfloat16), torch.randn(shape, dtype=torch.bfloat16)
            assert temporaries_of(lambda: conv(x)) == [workspace]
            assert temporaries_of(lambda: kind(*sizes)(x.float())) == []

    def test_channels_that_are_last_stay_so(self) -> None:
        with on_gpu():
            conv = nn.Conv2d(8, 8, 3, dtype=torch.bfloat16)
            x = torch.randn(2, 8, 9, 9, dtype=torch.bfloat16)
            assert temporaries_of(lambda: conv(x)) != []
            assert temporaries_of(lambda: conv(x.to(memory_format=torch.channels_last))) == []

    def test_gradient_of_a_bias(self) -> None:
        """Its sum runs in the same operator; as on a GPU of compute capability 9.0."""
        with on_gpu(9.0):
            out = nn.Conv2d(3, 768, 16, 16)(torch.randn(32, 3, 224, 224))
            tokens = out.flatten(2).transpose(1, 2).contiguous()
            assert backward_temporaries(9.0, tokens) == [out.nbytes, -out.nbytes, 38_535_168, 24]


class TestAttention:
    """cuda/attention_backward.cu, flash_attn/flash_api.cpp, mem_eff_attention/kernel_backward.h.

    The numbers were also found on a GPU, of compute capability 9.0.
    """

    def gradient(self, shape: tuple[int, ...], dtype: torch.dtype, capability: float) -> list[int]:
        batch, heads, length, width = shape
        with on_gpu(capability):
            query, key, value = (
                torch.randn(batch, length, heads, width, dtype=dtype).transpose(1, 2).requires_grad_()
                for _ in range(3)
            )
            out = F.scaled_dot_product_attention(query, key, value)
            return temporaries_of(lambda: out.backward(torch.empty_like(out)), capability)

    def test_flash(self) -> None:
        sums, accumulator = 32 * 12 * 256 * FLOAT, 32 * 12 * 256 * 64 * FLOAT  # 197 queries in steps of 128
        assert self.gradient((32, 12, 197, 64), torch.bfloat16, 8.0) == [sums, accumulator]

    @pytest.mark.parametrize(("shape", "workspace"), [((32, 12, 197, 64), 25_190_400)])
    def test_efficient(self, shape: tuple[int, ...], workspace: int) -> None:
        product, sums = 32 * 12 * 197 * 64 * FLOAT, 32 * 12 * 197 * FLOAT
        found = self.gradient(shape, torch.float32, 9.0)
        assert found == [product, sums, sums, -product, -sums, workspace]
        assert workspace == 32 * 12 * 4 * (64 * 64 * FLOAT + 16)  # four tiles of queries, each with a lock

    def test_efficient_has_larger_tiles_for_wide_heads(self) -> None:
        found = self.gradient((32, 8, 133, 80), torch.float32, 9.0)
        assert found[-1] == 32 * 8 * 2 * 2 * (128 * 64 * FLOAT + 16) == 33_570_816
        found = self.gradient((32, 8, 133, 80), torch.float32, 8.6)
        assert found[-1] == 32 * 8 * 3 * 2 * (64 * 64 * FLOAT + 16)

    def test_cudnn(self) -> None:
        workspace = 32 * 12 * 197 * (64 + 1) * FLOAT + 256
        assert self.gradient((32, 12, 197, 64), torch.bfloat16, 9.0) == [workspace] == [19_668_736]


def test_other_operators_allocate_nothing() -> None:
    x = torch.randn(4)
    assert temporaries(CudaDevice(), ATEN.gelu.default, (x,), {}) == ()


def test_the_log_has_them_while_the_operator_runs() -> None:
    with on_gpu():
        x = torch.randn(300, 100, requires_grad=True)
        with StorageLog() as log:
            log.note("weights", [x])
            out = x.softmax(-1)
            out.backward(torch.ones_like(out))
        # Input, output, gradient, their product, and the result
        assert sum(log.peak().values()) == 5 * x.nbytes
