"""The front and the best of each method, as documents."""

from __future__ import annotations

import json

import pytest

from search.goals.constraints import parse_constraints
from search.goals.luck import Luck
from search.goals.objectives import always_reported, get_objectives
from search.records.history import History
from search.records.status import Status
from search.reporting.rows import front_rows, method_rows, probe_row, probe_table, unmet_rows
from tests.search.reporting.histories import add, of_three_methods, probes
from tests.tasks import classification

LINEAR = {"method": "linear", "learning_rate": 1e-3}


def test_a_member_of_the_front() -> None:
    history = of_three_methods()
    assert list(front_rows(history)[0].items()) == [
        ("trial_id", "a"),
        ("run_id", "a" * 12),
        ("memory", 1.0),
        ("accuracy", 0.5),
        ("test_accuracy", 0.4),
        ("trainable_parameters", 10**6),
        ("seeds", 1),
        ("weights", None),
        ("model", None),
        ("node", None),
        ("p_front", None),
        ("p_better", None),
        ("standard_error", {}),
        ("robustness", {}),
        ("config", {"method": "linear", "learning_rate": 3e-3}),
    ]
    assert json.loads(json.dumps(front_rows(history))) == front_rows(history)


def test_a_configuration_whose_first_seed_failed_has_the_others() -> None:
    for constraints in ((), parse_constraints(["accuracy>=80%"])):
        history = History(
            get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0}, constraints
        )
        first = add(history, "a", 1, 0.1, LINEAR, status=Status.RUNNING)
        history.settle(first, Status.DIVERGED)
        add(history, "b", 1, 0.5, LINEAR, repeat_of="a")
        add(history, "c", 1, 0.6, LINEAR, repeat_of="a")
        (best,) = method_rows(history)
        assert (best["trial_id"], best["accuracy"], best["seeds"]) == ("b", 0.55, 2)
        missed = [(row["trial_id"], row["nearest"]) for row in unmet_rows(history)]
        assert missed == ([("b", 0.55)] if constraints else [])


def test_memory_and_the_tasks_first_metric_are_always_there() -> None:
    history = History(
        get_objectives(("params", "macro_f1")),
        {"params": 1e9, "macro_f1": 0.0},
        reported=always_reported(classification(2)),
    )
    add(history, "a", 1, 0.5, LINEAR, inherited={"accuracy": 0.25})
    add(history, "b", 1, 0.75, LINEAR, repeat_of="a")
    (row,) = front_rows(history)
    assert list(row)[:8] == [
        *("trial_id", "run_id", "memory", "accuracy", "test_accuracy"),
        *("params", "macro_f1", "test_macro_f1"),
    ]
    assert (row["accuracy"], row["inherited_accuracy"], row["seeds"]) == (0.625, 0.25, 2)
    assert list(row["spread"]) == [
        *("memory", "accuracy", "params", "macro_f1", "test_accuracy", "test_macro_f1")
    ]


def test_what_is_known_about_luck() -> None:
    history = History(get_objectives(("memory", "accuracy", "step_time")), {"memory": 8.0, "accuracy": 0.0})
    for name, seconds, repeats in (("a", 0.1, None), ("b", 0.3, "a")):
        add(history, name, 1, 0.5, LINEAR, repeat_of=repeats, step_time=seconds)
    history.trials["a"].luck = Luck(0.9, 0.8, {"accuracy": 0.02, "test_accuracy": 0.03})
    (row,) = front_rows(history)
    assert (row["p_front"], row["p_better"]) == (0.9, 0.8)
    errors = {"accuracy": 0.02, "test_accuracy": 0.03, "step_time": 0.1}  # 0.141 / sqrt(2) of two seeds
    assert row["standard_error"] == pytest.approx(errors)


def test_robustness_is_the_mean_over_seeds_of_what_counts() -> None:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    for name, value, repeats in (("a", 0.25, None), ("b", 0.75, "a")):
        without = {"text": {"accuracy": value, "loss": 2.0}}
        add(history, name, 1, 0.5, LINEAR, repeat_of=repeats, robustness=without)
    assert front_rows(history)[0]["robustness"] == {"text": {"accuracy": 0.5}}
    history.trials["b"].robustness = {}
    assert front_rows(history)[0]["robustness"] == {}, "not known for all seeds"
    history.trials["b"].test = {}
    assert front_rows(history)[0]["robustness"] == {"text": {"accuracy": 0.25}}


def test_what_was_not_scored_is_null() -> None:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    add(history, "a", 1, 0.5, LINEAR, test={})
    assert front_rows(history)[0]["test_accuracy"] is None


def test_the_best_is_by_what_training_decides() -> None:
    history = History(get_objectives(("params", "loss")), {"params": 1e9, "loss": 3.0})
    for name, loss in (("a", 0.9), ("b", 0.4)):
        add(history, name, 1, 0.5, {**LINEAR, "name": name})
        history.trials[name].epochs[-1]["loss"] = loss
    assert [row["trial_id"] for row in method_rows(history)] == ["b"]


def test_the_nearest_trial_misses_constraints_that_none_met() -> None:
    history = of_three_methods(*parse_constraints(["accuracy>=95%", "loss<=1.5", "macro_f1>=92%"]))
    assert unmet_rows(history) == [
        {"constraint": name, "trial_id": "d", "nearest": 0.9, "missed_by": pytest.approx(missed)}
        for name, missed in (("accuracy>=95%", 0.05), ("macro_f1>=92%", 0.02))
    ]
    assert unmet_rows(of_three_methods(*parse_constraints(["accuracy>=80%"]))) == []
    assert unmet_rows(History(history.objectives, {}, history.constraints)) == []


def test_what_each_seed_alone_meets_is_missed_by_the_mean() -> None:
    history = of_three_methods(*parse_constraints(["accuracy>=85%"]))
    add(history, "e", 6, 0.7, history.trials["d"].config, repeat_of="d")
    (row,) = unmet_rows(history)
    assert row["trial_id"] == "d"
    assert row["nearest"] == pytest.approx(0.8)
    assert row["missed_by"] == pytest.approx(0.05)


def test_the_probe_is_a_row_with_those_of_modalities_and_of_the_best_reading() -> None:
    history = of_three_methods()
    assert probe_row(history) is None
    probes(history, 1.5, 0.7, text=0.4, image=0.55)
    row = probe_row(history)
    assert row is not None
    assert (row["trial_id"], row["memory"], row["accuracy"], row["test_accuracy"]) == (
        "probe",
        1.5,
        0.7,
        pytest.approx(0.65),
    )
    assert row["config"] == {
        "method": "probe",
        "strength": 0.1,
        "pooling.text": "cls",
        "pooling.image": "cls",
    }
    assert row["on_front"]
    assert {name: own["on_front"] for name, own in row["modalities"].items()} == {
        "text": False,
        "image": True,
    }
    best = row["best_reading"]
    assert best["accuracy"] == pytest.approx(0.72)
    assert "memory" not in best
    table = probe_table(row)
    assert [r["trial_id"] for r in table] == ["probe", "probe:text", "probe:image", "best reading"]
    assert json.loads(json.dumps(row)) == row


def test_a_value_that_a_probe_lacks_is_none() -> None:
    history = History(get_objectives(("memory", "step_time")), {"memory": 8.0})
    probes(history, 1.5, 0.7)
    row = probe_row(history)
    assert row is not None
    assert row["step_time"] is None
    assert not row["on_front"]


def test_unmet_constraints_are_those_of_trials() -> None:
    history = of_three_methods(*parse_constraints(("memory<=0.8GiB",)))
    probes(history, 0.5, 0.4)
    assert [row["trial_id"] for row in front_rows(history)] == ["probe"]
    assert unmet_rows(history)[0]["trial_id"] == "a"


def test_the_weights_are_those_of_the_best_seed() -> None:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    for name, accuracy, repeats in (("a", 0.5, None), ("b", 0.75, "a"), ("c", 0.6, "a")):
        add(history, name, 1, accuracy, LINEAR, repeat_of=repeats, checkpoint=f"{name}/checkpoint_000001")
    assert front_rows(history)[0]["weights"] == "b/checkpoint_000001"
    history.trials["b"].checkpoint = None
    assert front_rows(history)[0]["weights"] == "c/checkpoint_000001"
