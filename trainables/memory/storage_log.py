"""A log of tensor storages: when each exists and of what kind it is. The peak is computed from the log."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.towers import current_part

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary")

#: Bytes by kind and part of the model.
Holdings = dict[tuple[str, str | None], int]

_DEVICE_OF = torch.ops.prim.device.default


class StorageLog(TorchDispatchMode):
    """Logs when every tensor storage appears and disappears, and computes the peak afterwards.

    The kind of a storage is known only later: storages that exist after the forward pass are activations,
    others were temporary. Therefore the log is replayed after the step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[int, int]] = []  # (storage, +bytes or -bytes)
        self._kind: dict[int, str] = {}
        self._part: dict[int, str | None] = {}
        self._live: dict[int, tuple[int, int]] = {}  # address of the C++ storage -> (storage, bytes)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and skipping the compiler would double the time

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE_OF and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # a short cut for two of three calls on fake tensors
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self._see(out)
        elif isinstance(out, tuple | list):
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._see(leaf)
        return out

    def note(self, kind: str, tensors: Iterable[Tensor], part: str | None = None) -> None:
        """Set the kind of these tensors' storages and the part of the model to which they belong."""
        for tensor in tensors:
            storage = self._see(tensor)
            self._kind[storage] = kind
            self._part[storage] = part

    def note_live(self, kind: str) -> None:
        """Set the kind of all live storages that have none."""
        for storage, _ in self._live.values():
            self._kind.setdefault(storage, kind)

    def transient(self, size: int) -> None:
        """Log temporary tensors of a total size in bytes that appear and disappear at this moment."""
        number = len(self._events)
        self._part[number] = current_part()
        self._events += [(number, size), (number, -size)]

    def mark(self) -> int:
        """Return the current position in the log, for ``rise``."""
        return len(self._events)

    def rise(self, mark: int) -> int:
        """Return the largest increase of live bytes since the mark."""
        total = most = 0
        for _, size in self._events[mark:]:
            total += size
            most = max(most, total)
        return most

    def peak(self) -> Holdings:
        """Replay the log and return the bytes held at the peak; if it occurs twice, the first time."""
        total = most = end = 0
        for number, (_, size) in enumerate(self._events):
            total += size
            if total > most:
                most, end = total, number + 1
        held: Holdings = defaultdict(int)
        for storage, size in self._events[:end]:
            held[self._kind.get(storage, "temporary"), self._part.get(storage)] += size
        return {key: size for key, size in held.items() if size}

    def _see(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            number, size = len(self._events), storage.nbytes()
            self._live[address] = (number, size)
            self._part[number] = current_part()
            self._events.append((number, size))
            weakref.finalize(storage, self._gone, address)
        return self._live[address][0]

    def _gone(self, address: int) -> None:
        number, size = self._live.pop(address)
        self._events.append((number, -size))
