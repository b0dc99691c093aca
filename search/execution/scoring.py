"""Scoring of trials on the test split, in processes that a watchdog ends if they hang."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, WorkerCrashedError

from search.backends.base import Scorer
from search.execution.survival import find_hang, notes_folder
from search.placement import Share
from trainables.trial.assignment import Assignment
from trainables.trial.outcome import last_line
from trainables.trial.outputs import Evaluation
from trainables.trial.watchdog import Watchdog


def score_on_test(
    scorer: Scorer,
    assigned: Sequence[tuple[Assignment, Share]],
    *,
    hang_timeout: float,
    max_failures: int,
) -> Iterator[tuple[int, Evaluation | str]]:
    """Score trials on the test split, as many at once as fit.

    A trial whose worker died, or made no progress and ended itself, is scored again by another one.

    Args:
        scorer: Scores a trial.
        assigned: The trials, each with the share of a device that it gets.
        hang_timeout: Seconds without progress after which a worker ends itself.
        max_failures: How often a trial is scored again.

    Yields:
        The index of a trial, and its evaluation or, in one line, why it has none; as soon as it is known.
    """
    running: dict[Any, tuple[int, int, str]] = {}

    def begin(index: int, failures: int) -> None:
        assignment, share = assigned[index]
        notes = f"scoring-{uuid.uuid4().hex}"
        score = ray.remote(_score).options(**share.options(), max_retries=0)
        running[score.remote(scorer, assignment, notes, hang_timeout)] = index, failures, notes

    for index in range(len(assigned)):
        begin(index, 0)
    try:
        while running:
            (ready,), _ = ray.wait(list(running))
            index, failures, notes = running.pop(ready)
            try:
                yield index, ray.get(ready)
            except WorkerCrashedError as error:
                if failures < max_failures:
                    begin(index, failures + 1)
                else:
                    yield index, find_hang(notes) or last_line(error)
            except RayError as error:
                yield index, last_line(error)
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _score(scorer: Scorer, assignment: Assignment, notes: str, hang_timeout: float) -> Evaluation:
    """Score a trial in its own process."""
    watchdog = Watchdog(notes_folder(notes), hang_timeout)
    watchdog.start()
    with watchdog.watching():
        return scorer(assignment, watchdog.tick)
