"""What is said while a search runs."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.live import Live

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from search.records.status import Status
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


@pytest.fixture
def thread_errors(monkeypatch) -> Iterator[list[threading.ExceptHookArgs]]:
    """What threads have raised; the interpreter changes between threads as often as it can."""
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield errors
    sys.setswitchinterval(before)


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


def test_a_large_search_changes_while_the_terminal_is_redrawn(history, thread_errors, monkeypatch) -> None:
    monkeypatch.setattr(progress, "Live", lambda **kept: Live(**{**kept, "refresh_per_second": 1000}))
    shown = io.StringIO()
    for number in range(3000):
        epoch_of(history, f"before-{number}", 1, 10)
        history.trials[f"before-{number}"].status = Status.STOPPED
    console = Console(file=shown, force_terminal=True, width=200)
    with Progress(console, history, num_samples=10**5, epochs=3) as view:
        for number in range(300):
            record = TrialRecord(
                f"trial-{number}", {"method": "[/]"}, history.trials["before-0"].memory, number=number
            )
            history.add(record)
            view.started(record)
            history.note(record, {"epoch": 1, "accuracy": 0.5})
            view.reported(record)
            history.settle(record, Status.FINISHED)
            view.ended(record)
            time.sleep(0.001)
    assert not thread_errors
    assert "of 100000 done" in shown.getvalue()


def test_the_terminal_shows_each_trial_as_it_starts_and_the_time_as_it_passes(clock, history) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200)
    view = Progress(console, history, num_samples=4, epochs=3)
    for name in ("a", "b"):
        epoch_of(history, name, 1, 10)
        view.started(history.trials[name])
    clock[0] += 75
    with view:
        pass
    assert "2 running" in shown.getvalue()
    assert shown.getvalue().count("running 1/3") == 2
    assert "1 min 15 s" in shown.getvalue()


def test_a_training_counts_its_seeds_and_has_no_front(history) -> None:
    epoch_of(history, "first", 1, 5)
    first = history.trials["first"]
    history.add(TrialRecord("second", first.config, first.memory, seed=1, repeat_of="first"))
    history.settle(first, Status.FINISHED)
    facts = dict(Progress(Console(file=io.StringIO()), history, 3, epochs=1, alone=True).facts())
    assert facts["trials"] == "1 of 3 done, 1 running"
    assert facts["best accuracy"] == "0.500"
    assert not {"hypervolume", "front"} & facts.keys()
