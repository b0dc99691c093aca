"""What is said while a search runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from search.reporting import progress
from search.reporting.progress import Progress
from trainables.memory import MemoryReport


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What the time is, to be set."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def history() -> History:
    return History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})


def epoch_of(history: History, name: str, number: int, seconds: float) -> None:
    if name not in history.trials:
        report = MemoryReport(10**9, 10**9, 0, 0, 0, 0, trainable_parameters=1, checkpoint=4)
        history.add(TrialRecord(name, {"method": "linear"}, report, number=len(history.trials)))
    result = {"epoch": number, "accuracy": 0.5, "epoch_seconds": seconds - 2, "validation_seconds": 2}
    history.note(history.trials[name], result)


def left(view: Progress) -> str | None:
    return dict(view.facts()).get("time left")


def test_time_left_counts_training_not_what_went_before_it(clock, history) -> None:
    view = Progress(Console(file=io.StringIO()), history, num_samples=4, epochs=3)
    clock[0] += 50  # starting workers, filling the cache
    assert left(view) is None
    clock[0] += 10
    epoch_of(history, "a", 1, 10)
    assert left(view) == "about 1 min 50 s"  # of 12 epochs 11
    clock[0] += 10
    epoch_of(history, "a", 2, 10)
    assert left(view) == "about 1 min 40 s"


def test_time_left_is_no_longer_than_the_budget(clock, history) -> None:
    view = Progress(Console(file=io.StringIO()), history, num_samples=1000, epochs=3, time_budget=90)
    clock[0] += 20
    epoch_of(history, "a", 1, 10)
    assert left(view) == "about 1 min 10 s"


def test_epochs_of_before_an_interruption_do_not_count(clock, history) -> None:
    epoch_of(history, "a", 1, 10)
    view = Progress(Console(file=io.StringIO()), history, num_samples=1, epochs=3)
    clock[0] += 30
    assert left(view) is None
    epoch_of(history, "a", 2, 30)
    assert left(view) == "about 30 s"
