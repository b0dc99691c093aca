"""Where the wall time of a search goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from search.records.history import TrialRecord

_Entered = TypeVar("_Entered")

_TRIALS = "trials"
_STARTING = "start of workers"
#: What a worker reports of an epoch's time, and what it is called here.
_WORK = {"epoch_seconds": "training", "validation_seconds": "validation", "test_seconds": "test scoring"}


class Clock:
    """Splits the wall time from its creation on into parts; each moment belongs to one part.

    It listens to trials. The time in which trials run is split by what their workers were doing, on average
    over as many workers as were busy at once; the rest of it is ``waiting``.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._part = "set-up"
        self._since = time.perf_counter()
        self._work: dict[str, float] = defaultdict(float)
        self._open: dict[str, int] = {}  # epochs of the trials that run
        self._fresh: set[str] = set()  # trials that have reported nothing since they were started
        self._most = 1

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time as a part; inside another block, it does not count as the other part."""
        outer = self._part
        self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    @contextmanager
    def entering(self, name: str, context: AbstractContextManager[_Entered]) -> Iterator[_Entered]:
        """Enter a context, and count the time of entering it as a part."""
        with ExitStack() as stack:
            with self.part(name):
                entered = stack.enter_context(context)
            yield entered

    @contextmanager
    def trials(self) -> Iterator[None]:
        """Count the block's time as the start of workers until a trial starts, and then as trials."""
        with self.part(_STARTING):
            yield
        self._open.clear()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far; their sum is the time since the clock's creation."""
        self._switch(self._part)
        found = dict(self._seconds)
        passed = found.get(_TRIALS, 0.0)
        work = {part: seconds / self._most for part, seconds in self._work.items()}
        waiting = passed - sum(work.values())
        if not work or waiting < 0:  # trials that are replayed report more than has passed
            return found
        split = {_TRIALS: {**work, "waiting": waiting}}
        parts: dict[str, float] = defaultdict(float)
        for name, seconds in found.items():
            for part, share in split.get(name, {name: seconds}).items():
                parts[part] += share  # trials are scored by their workers, and in the end
        return dict(parts)

    def started(self, record: TrialRecord) -> None:
        """Hear that a worker has started a trial."""
        if self._part == _STARTING:
            self._switch(_TRIALS)
        self._open[record.trial_id] = len(record.epochs)
        self._fresh.add(record.trial_id)
        self._most = max(self._most, len(self._open))

    def reported(self, record: TrialRecord) -> None:
        """Add up what a trial reports of its last epoch."""
        before = self._open.get(record.trial_id)
        if before is None or before >= len(record.epochs):
            return
        epoch = record.epochs[-1]
        if record.trial_id in self._fresh:
            self._fresh.remove(record.trial_id)
            self._work["building"] += epoch.get("setup_seconds", 0.0)
        for name, part in _WORK.items():
            if name in epoch:
                self._work[part] += epoch[name]
        self._open[record.trial_id] = len(record.epochs)

    def ended(self, record: TrialRecord) -> None:
        """Hear that a trial runs no longer."""
        self._open.pop(record.trial_id, None)

    def _switch(self, part: str) -> None:
        now = time.perf_counter()
        self._seconds[self._part] += now - self._since
        self._part, self._since = part, now
