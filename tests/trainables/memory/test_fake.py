"""Results of fake operations have the shape, layout and type of real ones, also those that are remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.memory.fake import UNKNOWN, FakeTensors

ATEN = torch.ops.aten


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.prim.device.default:
            tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
            self.seen.append((func, [(one.shape, one.stride(), one.dtype) for one in tensors]))
        return out


def weight(*shape: int) -> Tensor:
    return torch.ones(shape, requires_grad=True)


NORMS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "layer": ((2, 4, 6), lambda x: F.layer_norm(x.mT, (4,), weight(4), weight(4)).mT),
    "group": ((2, 4, 6, 6), lambda x: F.group_norm(x, 2, weight(4), weight(4))),
    "batch": (
        (2, 4, 6, 6),
        lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), weight(4), weight(4), training=True),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", NORMS)
def test_norms(norm, dtype) -> None:
    """Under autocast, too, where a norm's input and its weight have different types."""

    def run() -> list[Any]:
        shape, forward = NORMS[norm]
        with Recorder() as recorder:
            out = forward(torch.zeros(shape, dtype=dtype, requires_grad=True))
            out.backward(torch.zeros(out.shape, dtype=out.dtype))
        return recorder.seen

    real = run()
    with FakeTensors().active():
        assert run() == real


def test_a_new_tensor_has_the_default_type_of_its_time() -> None:
    fake = FakeTensors()
    with fake.active():
        assert [torch.zeros(2, 3).dtype for _ in range(2)] == [torch.float32] * 2
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.zeros(2, 3).dtype == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)


def test_an_operation_is_known_once_it_was_run() -> None:
    fake = FakeTensors()
    with fake.active():
        one = torch.zeros(2, 3)
        assert fake.recall(ATEN.t.default, (one,), {}) is UNKNOWN
        first, again = one.t(), fake.recall(ATEN.t.default, (one,), {})
        assert (again.shape, again.stride()) == (first.shape, first.stride()) == ((3, 2), (1, 3))
        assert again.untyped_storage()._cdata == one.untyped_storage()._cdata
        assert fake.recall(ATEN.t.default, (torch.zeros(3, 3),), {}) is UNKNOWN


@pytest.mark.parametrize("value", [2, 2.0, True])
def test_arguments_that_are_equal_but_of_other_types_give_other_results(value) -> None:
    fake = FakeTensors()
    with fake.active():
        whole = torch.zeros(3, dtype=torch.int64)
        made = [whole * other for other in (2, 2.0, True, value)]
    expected = {int: torch.int64, float: torch.float32, bool: torch.int64}
    assert made[-1].dtype == expected[type(value)]
