"""Work in processes that a watchdog ends if they hang."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, WorkerCrashedError

from search.execution.room import LOOK, Room
from search.execution.survival import find_hang, notes_folder
from search.nodes import cause_of, node_named
from search.placement import Share
from trainables.errors import UserError
from trainables.progress import Tick
from trainables.trial.device import require_cuda
from trainables.trial.outcome import last_line
from trainables.trial.watchdog import Watchdog

T = TypeVar("T")


def run_watched(
    jobs: Sequence[tuple[Callable[[Tick], T], Share]], room: Room, *, hang_timeout: float, max_failures: int
) -> Iterator[tuple[int, T | str]]:
    """Run functions in processes of their own, as many at once as fit.

    A function whose process died, or made no progress and ended itself, is run again by another one. One that
    a user's mistake keeps from running, such as a dataset that its node lacks, is not.

    Args:
        jobs: The functions, each with the share of a device that it gets. They report progress by calling
            their argument, and return no text.
        room: Hears of functions that wait.
        hang_timeout: Seconds without progress after which a process ends itself.
        max_failures: How often a function is run again.

    Yields:
        The index of a function, and its result or, in one line, why it has none; as soon as they are known.
    """
    running: dict[Any, tuple[int, int, str]] = {}

    def begin(index: int, failures: int) -> None:
        function, share = jobs[index]
        notes = f"task-{uuid.uuid4().hex}"
        run = ray.remote(_run).options(**share.options(), max_retries=0)
        running[run.remote(function, notes, hang_timeout, share.on_gpu)] = index, failures, notes

    for index in range(len(jobs)):
        begin(index, 0)
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=LOOK)
            if not done:
                room.wanted(jobs[next(iter(running.values()))[0]][1])
                continue
            room.found()
            (ready,) = done
            index, failures, notes = running.pop(ready)
            try:
                yield index, ray.get(ready)
            except WorkerCrashedError as error:
                if failures < max_failures:
                    begin(index, failures + 1)
                else:
                    yield index, find_hang(notes) or last_line(error)
            except UserError as error:
                yield index, str(cause_of(error))
            except RayError as error:
                yield index, last_line(error)
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _run(function: Callable[[Tick], T], notes: str, hang_timeout: float, on_gpu: bool) -> T:
    """Run a function in its own process."""
    watchdog = Watchdog(notes_folder(notes), hang_timeout)
    watchdog.start()
    with watchdog.watching(), node_named():
        if on_gpu:
            require_cuda()
        return function(watchdog.tick)
