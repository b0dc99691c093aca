"""What an expression saves for the backward pass, and what it allocates for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.memory.fake import FakeTensors
from trainables.memory.kernels import CudaDevice, cuda_kernels, temporaries, unobserved

FAKE = FakeTensors()


@contextmanager
def on_gpu(compute_capability: float = 8.0) -> Iterator[None]:
    """Make new tensors fake ones that behave as on a GPU."""
    with FAKE.active(), cuda_kernels(CudaDevice(compute_capability)):
        yield


def saved(compute: Callable[[], Tensor]) -> tuple[Tensor, dict[tuple[int, ...], torch.dtype]]:
    """Return a result, and the shapes and formats of the tensors that are saved for the backward pass."""
    found = {}

    def note(tensor: Tensor) -> Tensor:
        found[tuple(tensor.shape)] = tensor.dtype
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        return compute(), found


def saved_bytes(compute: Callable[[], Tensor], *, without: tuple[Tensor, ...] = ()) -> int:
    """Return the bytes of the storages that are saved, except those of some tensors."""
    found = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = compute()
    del out
    for tensor in without:
        found.pop(tensor.untyped_storage()._cdata, None)
    return sum(found.values())


class Operators(TorchDispatchMode):
    """Notes which operators run as on a GPU, and what they allocate beside their results.

    Args:
        compute_capability: That of the GPU.
    """

    def __init__(self, compute_capability: float = 8.0) -> None:
        super().__init__()
        self.device = CudaDevice(compute_capability)
        self.names: list[str] = []
        self.temporaries: list[int] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = unobserved(func, args)
        self.names.append(func.name().removeprefix("aten::"))
        out = func(*args, **(kwargs or {}))
        self.temporaries += temporaries(self.device, func, args, kwargs or {})
        return out


def temporaries_of(compute: Callable[[], Any], compute_capability: float = 8.0) -> list[int]:
    """Return what the operators of an expression allocate beside their results, in order."""
    with Operators(compute_capability) as operators:
        compute()
    return operators.temporaries
