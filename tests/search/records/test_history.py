"""What is kept of what trials report."""

from __future__ import annotations

import math

import numpy as np
from ray.tune.trainable import Trainable

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from trainables.memory import MemoryReport

REPORT = MemoryReport(2**30, 2**30, 0, 0, 0, 0, trainable_parameters=10**6, checkpoint=4 * 10**6)


class Reporting(Trainable):
    """Reports what no objective is called."""

    def step(self):
        """Report an epoch."""
        return {"epoch": 1, "accuracy": 0.5, "recall_at_5": np.float32(0.25), "done": True}


def _noted(result) -> TrialRecord:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 2.0, "accuracy": 0.0})
    record = TrialRecord("trial-000", {"method": "linear"}, REPORT)
    history.add(record)
    history.note(record, result)
    return record


def test_whatever_number_a_trial_reports_is_kept_and_nothing_of_ray_tunes() -> None:
    result = Reporting({"learning_rate": 0.1}).train()
    assert {"pid", "timestamp", "time_total_s", "training_iteration"} <= set(result)
    (epoch,) = _noted(result).epochs
    assert {**epoch, "time": 0.0} == {"epoch": 1.0, "accuracy": 0.5, "recall_at_5": 0.25, "time": 0.0}
    assert all(type(value) is float for value in epoch.values())


def test_what_is_no_number_is_left_out() -> None:
    (epoch,) = _noted({"epoch": 1, "note": "well", "flag": True, "table": {"a": 1}, "none": None}).epochs
    assert set(epoch) == {"epoch", "time"}


def test_a_number_that_is_not_finite_ranks_behind_all() -> None:
    record = _noted({"epoch": 1, "accuracy": math.nan})
    assert math.isnan(record.values["accuracy"])
