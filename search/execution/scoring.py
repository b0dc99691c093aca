"""Scoring of trials on the test split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console

from search.backends.base import Scorer
from search.execution.room import Room
from search.execution.watched import run_watched
from search.placement import Share
from search.reporting.progress import say
from trainables.trial.assignment import Assignment
from trainables.trial.outputs import Evaluation


def score_on_test(
    scorer: Scorer,
    assigned: Sequence[tuple[Assignment, Share]],
    console: Console,
    *,
    hang_timeout: float,
    max_failures: int,
) -> Iterator[tuple[int, Evaluation | str]]:
    """Score trials on the test split; see ``run_watched``.

    Args:
        scorer: Scores a trial.
        assigned: The trials, each with the share of a device that it gets.
        console: Shows what the scoring waits for.
        hang_timeout: Seconds without progress after which a worker ends itself.
        max_failures: How often a trial is scored again.

    Yields:
        The index of a trial, and its evaluation or, in one line, why it has none; as soon as it is known.
    """
    jobs = [(partial(scorer, assignment), share) for assignment, share in assigned]
    room = Room(partial(say, console), "the scoring of a trial", may_run=True)
    yield from run_watched(jobs, room, hang_timeout=hang_timeout, max_failures=max_failures)
