"""What autograd computes in place. Source of the rules: torch/csrc/autograd/input_buffer.cpp."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trainables.memory.kernels.saving import Operators, on_gpu


def sums(compute: Callable[[Tensor], Tensor]) -> list[str]:
    """Return the operators by which the gradients of a tensor are added up, or filled in."""
    with on_gpu():
        x = torch.randn(4, 8, requires_grad=True)
        out = compute(x)
        with Operators() as operators:
            out.sum().backward()
    return [name for name in operators.names if name.startswith(("add", "scatter", "index_"))]


def test_gradients_that_nothing_else_holds_are_added_in_place() -> None:
    def residual(x: Tensor) -> Tensor:
        return x.exp() + x.tanh()

    assert sums(residual) == ["add_.Tensor"]


def test_a_gradient_that_waits_elsewhere_is_not_changed() -> None:
    def shared(x: Tensor) -> Tensor:
        first, second = x * 2, x * 3
        wave = first.exp()
        return (first + second).tanh() + wave.tanh()  # the gradient of the sum is that of both

    assert sums(shared)[0] == "add.Tensor"


def test_views_of_a_gradient_are_not_changed() -> None:
    assert sums(lambda x: x.exp().sum(0) + x.sum(0)) == ["add.Tensor"]  # expanded over the rows


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda x: x.gather(1, torch.zeros(4, 2, dtype=torch.long)), "scatter_add_"),
        (lambda x: x.max(1).values, "scatter_.src"),
        (lambda x: x[torch.zeros(3, dtype=torch.long)], "index_put_"),
        (lambda x: x.index_select(0, torch.zeros(3, dtype=torch.long)), "index_add_"),
    ],
)
def test_zeros_are_filled_in_place(compute: Callable[[Tensor], Tensor], expected: str) -> None:
    assert sums(compute) == [expected]


def test_the_forward_pass_is_as_written() -> None:
    with on_gpu(), Operators() as operators:
        x = torch.randn(4, 8)
        x + x
    assert operators.names[-1] == "add.Tensor"


def test_real_gradients_are_added_where_the_prediction_says() -> None:
    """Autograd with nothing that observes it reuses the memory of the first gradient."""
    x = torch.randn(4, 8, requires_grad=True)
    seen: list[int] = []
    grown = x * 1
    first, second = grown.exp(), grown.tanh()
    grown.register_hook(lambda gradient: seen.append(gradient.data_ptr()))
    second.grad_fn.register_hook(lambda inputs, _: seen.append(inputs[0].data_ptr()))
    (first + second).sum().backward()
    assert len(set(seen)) == 1


def test_a_bias_is_added_in_place_to_some_positions() -> None:
    """``linear`` in aten/src/ATen/native/Linear.cpp."""
    with on_gpu(), Operators() as operators:
        x, weight, bias = torch.randn(2, 5, 8), torch.randn(3, 8), torch.randn(3)
        assert F.linear(x[:, 1:], weight, bias).shape == (2, 4, 3)
        assert "add_.Tensor" in operators.names
        before = len(operators.names)
        F.linear(x, weight, bias)
        assert "addmm" in operators.names[before:]
        assert F.linear(x[:, 1:], weight).shape == (2, 4, 3)
