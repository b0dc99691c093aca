"""What is kept of what trials report."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np
from ray.tune.trainable import Trainable

from search.goals.constraints import parse_constraint
from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.records.store import SearchStore
from tests.search.reporting.histories import add, of_three_methods, probes
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


def _ids(records) -> list[str]:
    return [record.trial_id for record in records]


def test_a_probe_stands_on_the_front_if_it_belongs_there() -> None:
    history = of_three_methods()  # a 1 GiB .5, b 2 GiB .7, d 6 GiB .9
    without = history.hypervolume()
    probes(history, 1.5, 0.7, text=0.4, image=0.55)
    assert _ids(history.front()) == ["probe:image", "probe", "d"]
    assert _ids(history.front(probes=False)) == ["a", "b", "d"]
    assert history.hypervolume() > without
    assert history.best()["memory"] == 0.75
    assert len(history.trials) == 4
    assert _ids(history.best_of_methods()) == ["d", "b", "a"]
    assert "probe" not in _ids(history.by_status(Status.FINISHED))
    assert history.best_found() is history.trials["d"]
    assert {"d", "b", "a", "probe"} <= set(_ids(history.scored()))
    add(history, "e", 1, 0.95, {"method": "linear", "learning_rate": 1e-3})
    assert _ids(history.front()) == ["probe:image", "e"]


def test_a_probe_that_breaks_a_constraint_is_not_on_it() -> None:
    for bound in ("memory<=1GiB", "accuracy>=75%"):
        history = of_three_methods(parse_constraint(bound))
        probes(history, 1.5, 0.7)
        assert "probe" not in _ids(history.front())


def test_without_a_value_of_each_objective_a_probe_is_not_on_the_front() -> None:
    history = History(get_objectives(("memory", "step_time")), {"memory": 8.0})
    probes(history, 1.5, 0.7)
    assert history.lacking(history.probes["probe"]) == ["step_time"]
    assert history.front() == history.rival_probes() == []
    bounded = of_three_methods(parse_constraint("step_time<=1s"))
    probes(bounded, 1.5, 0.7)
    assert bounded.lacking(bounded.probes["probe"]) == ["step_time"]


def test_probes_are_in_the_store_and_are_no_trials_there(tmp_path) -> None:
    history = of_three_methods()
    probes(history, 1.5, 0.7, text=0.4)
    with closing(SearchStore.create(tmp_path / "search", history.probe_facts())) as store:
        again = of_three_methods()
        again.restore(store)
        assert list(store.trials()) == []
    assert again.probes == history.probes
    assert again.best_probe == history.best_probe
    assert again.hypervolume() == history.hypervolume()
