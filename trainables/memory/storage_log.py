"""A log of tensor storages: when each exists and of what kind it is. The peak is computed from the log."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.memory.fake import UNKNOWN, FakeTensors
from trainables.memory.kernels import active_device, in_order, temporaries, unobserved
from trainables.memory.replay import StepAllocations
from trainables.towers import current_part

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary")

#: Bytes by kind and part of the model.
Holdings = dict[tuple[str, str | None], int]

_DEVICE_OF = torch.ops.prim.device.default

#: Number of the storage, in a stretch of a log, that exists before it.
GIVEN = -1


@dataclass(frozen=True)
class Stretch:
    """A stretch of a log that turns one tensor into another, to be inserted into other logs.

    Attributes:
        events: Storages, with their bytes or the negative of them. Each is numbered by the position at which
            it is allocated.
        result: Number of the storage that exists after them, the only one.
    """

    events: Sequence[tuple[int, int]]
    result: int

    @property
    def rise(self) -> int:
        """The largest increase of live bytes in the stretch."""
        return max(accumulate((size for _, size in self.events), initial=0))


class StorageLog(TorchDispatchMode):
    """Logs when every tensor storage appears and disappears, and computes the peak afterwards.

    The kind of a storage is known only later: storages that exist after the forward pass are activations,
    others were temporary. Therefore the log is replayed after the step.

    Args:
        fake: The mode that makes new tensors fake ones, if there is one. It is active whenever the log is.
    """

    def __init__(self, fake: FakeTensors | None = None) -> None:
        super().__init__()
        self._fake = fake
        self._events: list[tuple[int, int]] = []  # (storage, +bytes or -bytes)
        self._kind: dict[int, str] = {}
        self._part: dict[int, str | None] = {}
        self._live: dict[int, tuple[int, int]] = {}  # address of the C++ storage -> (storage, bytes)
        self._ends: dict[int, Any] = {}  # address -> reference that calls _gone
        self._begin = 0  # number of events before the step
        self._update: int | None = None  # number of events before the optimizer's update
        self._end = 0  # number of events when the log was left

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._end = len(self._events)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and skipping the compiler would double the time

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE_OF and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # a short cut for two of three calls on fake tensors
        kwargs = kwargs or {}
        gpu = active_device()
        if gpu is None:
            out = self._call(func, args, kwargs)
            self._see(out)
            return out
        func = unobserved(func, args)
        out = self._call(func, args, kwargs)
        self._see(in_order(func, out))
        self._pass(temporaries(gpu, func, args, kwargs))
        return out

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = UNKNOWN if self._fake is None else self._fake.recall(func, args, kwargs)
        return func(*args, **kwargs) if out is UNKNOWN else out

    def _see(self, out: Any) -> None:
        if isinstance(out, Tensor):
            self.number(out)
        elif isinstance(out, tuple | list):
            for one in out:
                self._see(one)

    def note(self, kind: str, tensors: Iterable[Tensor], part: str | None = None) -> None:
        """Set the kind of these tensors' storages and the part of the model to which they belong."""
        for tensor in tensors:
            storage = self.number(tensor)
            self._kind[storage] = kind
            self._part[storage] = part

    def note_live(self, kind: str) -> None:
        """Set the kind of all live storages that have none."""
        for storage, _ in self._live.values():
            self._kind.setdefault(storage, kind)

    def begin(self) -> None:
        """Separate the step that follows from what exists before it."""
        self._begin = len(self._events)

    def begin_update(self) -> None:
        """Mark where the optimizer first updates a weight."""
        if self._update is None:
            self._update = len(self._events)

    def allocations(self) -> StepAllocations:
        """Return the sizes and the order of the step's allocations, after the log was left."""
        sizes = defaultdict(list)
        for storage, size in self._events[: self._begin]:
            sizes[self._kind[storage]].append(size)
        return StepAllocations(
            weights=sizes["weights"],
            optimizer=sizes["optimizer"],
            batch=sizes["activations"],
            events=self._events[self._begin : self._end],
            update=(self._end if self._update is None else self._update) - self._begin,
        )

    def _pass(self, sizes: Sequence[int]) -> None:
        """Log what appears now and disappears at once; see ``kernels.temporaries``."""
        live: list[tuple[int, int]] = []
        for size in sizes:
            number = len(self._events)
            if size < 0:
                number = next(earlier for earlier, of in reversed(live) if of == -size)
                live.remove((number, -size))
            else:
                self._part[number] = current_part()
                live.append((number, size))
            self._events.append((number, size))
        self._events += [(number, -size) for number, size in reversed(live)]

    def mark(self) -> int:
        """Return the current position in the log, for ``stretch``."""
        return len(self._events)

    def stretch(self, mark: int, given: int, result: Tensor) -> Stretch:
        """Return the events since a mark.

        Args:
            mark: Where the stretch begins.
            given: Number of the storage that exists before the stretch and is read in it.
            result: The tensor that the stretch computes. Whatever else it made is freed at its end.
        """
        numbers = {given: GIVEN}
        live: dict[int, int] = {}
        events: list[tuple[int, int]] = []
        for storage, size in self._events[mark:]:
            if storage >= mark:
                numbers.setdefault(storage, len(events))
                live[storage] = live.get(storage, 0) + size
            if storage in numbers:
                events.append((numbers[storage], size))
        kept = self.number(result)
        events += [(numbers[storage], -size) for storage, size in live.items() if size and storage != kept]
        return Stretch(events, numbers[kept])

    def insert(self, stretch: Stretch, given: Tensor, result: Tensor) -> None:
        """Log the events of a stretch as if they happened now.

        Args:
            stretch: A stretch of another log.
            given: The tensor that the stretch reads. Nothing is done with it afterwards.
            result: A new tensor that stands for what the stretch computes.
        """
        of_given, of_result = (tensor.untyped_storage()._cdata for tensor in (given, result))
        before, freed = self.number(given), (GIVEN, -self._live[of_given][1])
        number, size = self._live[of_result]
        del self._events[number]  # the stretch allocates it
        start = len(self._events)
        self._events += [(before if n == GIVEN else n + start, size) for n, size in stretch.events]
        self._part.update(dict.fromkeys(range(start, len(self._events)), current_part()))
        self._live[of_result] = before if stretch.result == GIVEN else stretch.result + start, size
        if stretch.result == GIVEN or freed in stretch.events:
            self._live[of_given] = before, 0  # it is not freed a second time

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

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor's storage, which is logged if it is new."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            number, size = len(self._events), storage.nbytes()
            self._live[address] = (number, size)
            self._part[number] = current_part()
            self._events.append((number, size))
            self._ends[address] = weakref.ref(storage, lambda _: self._gone(address))
        return self._live[address][0]

    def _gone(self, address: int) -> None:
        del self._ends[address]
        number, size = self._live.pop(address)
        self._events.append((number, -size))
