"""Matrix products in bfloat16 that are computed in fp32."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture(scope="module")
def emulation() -> Any:
    return importlib.import_module("emulation")


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def _gradient() -> Tensor:
    inputs = torch.ones(5, 96, dtype=torch.bfloat16, requires_grad=True)
    nn.functional.linear(inputs, _drawn(40, 96)).backward(_drawn(5, 40))
    assert inputs.grad is not None
    return inputs.grad


@pytest.mark.parametrize(
    "product",
    [
        lambda: nn.functional.linear(_drawn(7, 96), _drawn(40, 96), _drawn(40)),
        lambda: _drawn(7, 96) @ _drawn(96, 40),
        lambda: _drawn(3, 7, 96) @ _drawn(3, 96, 40),
        lambda: nn.functional.conv2d(_drawn(2, 3, 28, 28), _drawn(8, 3, 14, 14), _drawn(8), stride=14),
        _gradient,
    ],
    ids=["linear", "mm", "bmm", "convolution", "backward"],
)
def test_results_are_those_of_bfloat16(emulation: Any, product: Callable[[], Tensor]) -> None:
    expected = product().double()
    with emulation.WideProducts():
        found = product()
    assert found.dtype == torch.bfloat16
    within_one_rounding = torch.finfo(torch.bfloat16).eps * expected.abs().max()
    assert (found.double() - expected).abs().max() <= within_one_rounding
    assert (found.double() == expected).double().mean() > 0.95  # the order of sums decides the others


class _Types(TorchDispatchMode):
    """Records the types of the factors of products."""

    def __init__(self, products: Any) -> None:
        super().__init__()
        self.products = products
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket in self.products:
            self.seen.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("precision", "native", "computed"),
    [
        ("bf16-frozen", False, torch.float32),
        ("bf16-frozen", True, torch.bfloat16),
        ("fp32", False, torch.bfloat16),  # what is bfloat16 in it is not of the precision
    ],
)
def test_only_a_machine_without_the_instructions_computes_in_fp32(
    emulation: Any,
    monkeypatch: pytest.MonkeyPatch,
    inference: bool,
    precision: str,
    native: bool,
    computed: torch.dtype,
) -> None:
    monkeypatch.setattr("trainables.step.precision.device_computes_in_bf16", lambda device: native)
    products = emulation.products_in(precision)
    with _Types(emulation.PRODUCTS) as types, products, torch.inference_mode(inference):
        found = nn.functional.linear(_drawn(7, 96), _drawn(40, 96)) @ _drawn(40, 3)
    assert types.seen == {computed}
    assert found.dtype == torch.bfloat16
