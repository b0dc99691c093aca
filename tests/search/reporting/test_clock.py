from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from search.reporting import clock as module
from search.reporting.clock import Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless a test changes it."""
    time = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: time[0])
    return time


def trial(name: str, *epochs: dict[str, float]) -> Any:
    return SimpleNamespace(trial_id=name, epochs=list(epochs))


EPOCH = {"epoch_seconds": 4.0, "validation_seconds": 1.0, "setup_seconds": 2.0}


def test_each_moment_belongs_to_the_innermost_part(now) -> None:
    clock = Clock()
    now[0] += 1
    with clock.part("outer"):
        now[0] += 2
        with clock.part("inner"):
            now[0] += 4
        now[0] += 8
        assert clock.seconds() == {"set-up": 1, "outer": 10, "inner": 4}
    now[0] += 16
    assert clock.seconds() == {"set-up": 17, "outer": 10, "inner": 4}


def test_the_time_of_trials_is_split_by_what_their_workers_did(now) -> None:
    """Two workers at once; the first trial was resumed after an epoch."""
    clock = Clock()
    one, two = trial("one", EPOCH), trial("two")
    with clock.trials():
        now[0] += 3
        clock.started(one)
        clock.started(two)
        for record in (one, two):
            clock.reported(record)  # nothing new
            record.epochs.append(EPOCH)
            clock.reported(record)
        now[0] += 12
        two.epochs.append(EPOCH)
        clock.reported(two)
        clock.ended(one)
        clock.ended(two)
    with clock.part("end"):
        now[0] += 1
    spent = clock.seconds()
    assert spent == {
        "set-up": 0,
        "start of workers": 3,
        "building": 2,
        "training": 6,
        "validation": 1.5,
        "waiting": 2.5,
        "end": 1,
    }
    assert list(spent)[-2:] == ["waiting", "end"]
    assert sum(spent.values()) == 16


def test_scores_of_workers_and_those_in_the_end_are_one_part(now) -> None:
    clock, record = Clock(), trial("one")
    with clock.trials():
        clock.started(record)
        record.epochs.append({**EPOCH, "test_seconds": 3.0})
        clock.reported(record)
        now[0] += 10
    with clock.part("test scoring"):
        now[0] += 5
    spent = clock.seconds()
    assert spent["test scoring"] == 8
    assert sum(spent.values()) == 15


def test_what_trials_have_recorded_elsewhere_is_not_taken_for_this_search(now) -> None:
    clock, replayed = Clock(), trial("one")
    with clock.trials():
        clock.started(replayed)
        replayed.epochs.append(EPOCH)
        now[0] += 1
        clock.reported(replayed)
    assert clock.seconds() == {"set-up": 0, "start of workers": 0, "trials": 1}
