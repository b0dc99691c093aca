"""What an expression saves for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from trainables.memory.fake import FakeTensors
from trainables.memory.kernels import CudaDevice, cuda_kernels

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
