"""Autocast. Source of the rules: aten/src/ATen/autocast_mode.h."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.memory.kernels.saving import FAKE, on_gpu, saved
from trainables.memory.storage_log import StorageLog

FULL, HALF = torch.float32, torch.bfloat16


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=HALF)


def half(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=HALF, requires_grad=True)


IN_FULL = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x, (8,)),
    "sum": lambda x: x.sum(),
    "sum of a dimension": lambda x: x.sum(-1),
    "cumsum": lambda x: x.cumsum(-1),
    "pow": lambda x: x**2,
    "exp": lambda x: x.exp(),
    "norm": lambda x: x.norm(),
    "norm of a dimension": lambda x: x.norm(dim=-1),
    "mse_loss": lambda x: F.mse_loss(x, x.detach()),
}
AS_GIVEN = {
    "mean": lambda x: x.mean(),
    "gelu": lambda x: F.gelu(x),
    "cat": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, x]),
    "quantile": lambda x: x.float().quantile(0.5).to(HALF),
}


@pytest.mark.parametrize("name", IN_FULL)
def test_computed_in_full_precision(name: str) -> None:
    with on_gpu(), autocast():
        assert IN_FULL[name](half(4, 8)).dtype is FULL


@pytest.mark.parametrize("name", AS_GIVEN)
def test_computed_as_given(name: str) -> None:
    with on_gpu(), autocast():
        assert AS_GIVEN[name](half(4, 8)).dtype is HALF


def test_on_a_cpu_these_differ() -> None:
    with FAKE.active(), autocast():
        assert IN_FULL["softmax"](half(4, 8)).dtype is HALF


def test_softmax_saves_full_precision_and_layer_norm_a_copy_of_its_input() -> None:
    with on_gpu(), autocast():
        x = half(4, 8)
        assert saved(lambda: x.softmax(-1))[1] == {(4, 8): FULL}
        assert saved(lambda: nn.LayerNorm(8)(x))[1] == {(4, 8): FULL, (8,): FULL, (4, 1): FULL}


def test_a_given_type_is_respected() -> None:
    with on_gpu(), autocast():
        assert half(4, 8).softmax(-1, dtype=torch.float64).dtype is torch.float64
        assert torch.ones(3, dtype=torch.int64).sum().dtype is torch.int64


def test_products_are_computed_in_half_precision() -> None:
    with on_gpu(), autocast():
        x = torch.randn(4, 8)
        assert torch.einsum("ij,kj->ik", x, x).dtype is HALF
        assert (x @ x.T).dtype is nn.Linear(8, 3)(x).dtype is HALF


def test_the_widest_format_among_several() -> None:
    with on_gpu(), autocast():
        x, full = half(8), torch.randn(8)
        assert torch.addcmul(x, x, x).dtype is HALF
        assert torch.addcmul(x, x, full).dtype is FULL
        assert torch.cat([x, full]).dtype is FULL


def test_a_weight_is_cast_once() -> None:
    with on_gpu(), autocast():
        weight = nn.Parameter(torch.randn(8, 8))
        x = half(4, 8)
        first, second = ((x @ weight).grad_fn, (x @ weight).grad_fn)
        assert first.next_functions[1] == second.next_functions[1]


@pytest.mark.parametrize("uses", [1, 2])
def test_a_product_that_only_a_gpu_lists_casts_a_weight_once_too(uses: int) -> None:
    """``cached_cast`` in aten/src/ATen/autocast_mode.cpp."""
    with on_gpu():
        weight, x = nn.Parameter(torch.randn(100, 100)), torch.randn(1, 100, dtype=HALF)
        for _ in range(2):  # the cache ends with the context
            with StorageLog() as log, autocast():
                log.note("weights", [weight, x])
                results = [torch.einsum("ij,jk->ik", x, weight) for _ in range(uses)]
            taken = weight.nbytes + x.nbytes + weight.nbytes // 2 + sum(out.nbytes for out in results)
            assert sum(log.peak().values()) == taken
        sum(results).sum().backward()
        assert weight.grad is not None


def test_only_under_autocast() -> None:
    with on_gpu():
        assert half(4, 8).softmax(-1).dtype is HALF


def test_gradients_flow() -> None:
    with on_gpu():
        x = half(4, 8)
        with autocast():
            loss = sum(compute(x).float().sum() for compute in IN_FULL.values())
        loss.backward()
        assert x.grad is not None
        assert x.grad.dtype is HALF
