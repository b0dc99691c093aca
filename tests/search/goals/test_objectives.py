from __future__ import annotations

import math
from dataclasses import replace

import pytest

from search.goals.constraints import parse_constraint
from search.goals.objectives import (
    Objective,
    available_objectives,
    get_objectives,
    known_values,
    late_reference,
    normalised,
    reference_values,
    register_objective,
)
from search.goals.pareto import hypervolume
from search.testing import check_objective
from search.testing.objectives import registered
from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory import MemoryReport

MEMORY = MemoryReport(
    total=3 * 2**29,
    weights=2**29,
    gradients=2**28,
    optimizer=2**28,
    activations=2**28,
    temporary=2**28,
    trainable_parameters=262_144,
    checkpoint=2**20,
)


def test_some_values_are_known_before_training() -> None:
    values = known_values(MEMORY)
    assert values == {"memory": 1.5, "params": 262_144.0, "checkpoint": 1.0}
    values = known_values(replace(MEMORY, reserved=2**31, context=2**30, inference=2**29))
    assert (values["memory"], values["inference_memory"]) == (3.0, 1.5)
    assert list(values) == [name for name, o in available_objectives().items() if o.known]


def test_directions() -> None:
    there = available_objectives(classification(2))
    maximised = {name for name, objective in there.items() if objective.direction == "maximize"}
    assert maximised == {"accuracy", "macro_f1", "weighted_f1"}
    assert there["accuracy"].loss(0.75) == -0.75
    assert there["step_time"].loss(0.75) == 0.75


def test_all_but_the_step_time_have_a_reference_from_the_start() -> None:
    reference = reference_values(
        tuple(available_objectives(classification(2)).values()),
        {"memory": 8.0, "params": 1e6, "checkpoint": 2.0, "inference_memory": 3.0},
        {"accuracy": 0.25, "loss": math.log(4)},
    )
    expected = {"memory": 8.0, "params": 1e6, "checkpoint": 2.0, "inference_memory": 3.0}
    shares = dict.fromkeys(("accuracy", "macro_f1", "weighted_f1"), 0.0)
    assert reference == {**expected, **shares, "loss": math.log(4)}


def test_the_first_step_time_gives_its_reference() -> None:
    objectives = get_objectives(["step_time", "accuracy"])
    reference = reference_values(objectives, {}, {})
    first, slow = {"step_time": 0.2, "accuracy": 0.5}, {"step_time": 3.0, "accuracy": 0.9}

    def dominated(*trials: dict[str, float]) -> float:
        return hypervolume([normalised(objectives, reference, values) for values in trials], (1.0, 1.0))

    assert normalised(objectives, reference, first) == (1.0, 0.5)
    assert dominated(first, slow) == 0
    late = late_reference(objectives[0], first)
    assert late == 2.0
    reference["step_time"] = late
    assert normalised(objectives, reference, first) == pytest.approx((0.1, 0.5))
    assert dominated(first) == pytest.approx(0.9 * 0.5)
    assert dominated(first, slow) == dominated(first)


def _activations(report: MemoryReport) -> float:
    return report.activations / 2**20


#: Objectives that are like none of ours.
MADE_UP = (
    Objective("margin", "maximize", worst=-1.0, ideal=3.0, unit="points"),
    Objective("margin_to_be_seen", "maximize", ideal=3.0, unit="points"),
    Objective("perplexity", "minimize", ideal=1.0, unit="per token"),
    Objective("activations", "minimize", unit="MiB", value=_activations, title="memory of activations"),
    Objective("headroom", "maximize", 0.0, 2.0**13, "MiB", value=lambda report: 2**13 - _activations(report)),
)


@pytest.mark.parametrize("objective", available_objectives().values(), ids=lambda objective: objective.name)
def test_conforms(objective) -> None:
    check_objective(objective)


@pytest.mark.parametrize("objective", MADE_UP, ids=lambda objective: objective.name)
def test_any_other_objective_conforms_once_it_is_registered(objective) -> None:
    with registered(objective):
        check_objective(objective)
    assert objective.name not in available_objectives()


def test_any_direction_and_any_ideal_share_the_scale() -> None:
    objectives = (
        Objective("margin", "maximize", worst=-1.0, ideal=3.0),
        Objective("error", "minimize", worst=5.0, ideal=1.0),
        Objective("score", "maximize", ideal=3.0),
    )
    first = {"margin": 2.0, "error": 2.0, "score": 2.5}
    reference = reference_values(objectives, {}, {})
    assert reference == {"margin": -1.0, "error": 5.0}
    late = late_reference(objectives[2], first)
    assert late == -2.0, "ten times as far from the ideal"
    reference["score"] = late
    assert normalised(objectives, reference, first) == (0.25, 0.25, 0.1)
    assert normalised(objectives, reference, {o.name: o.ideal for o in objectives}) == (0, 0, 0)
    assert normalised(objectives, reference, reference) == (1, 1, 1)


def test_a_first_trial_at_the_ideal_sets_no_scale() -> None:
    assert late_reference(Objective("score", "maximize", ideal=3.0), {"score": 3.0}) is None


def test_values_of_ours_are_scaled_without_rounding() -> None:
    objectives = get_objectives(["memory", "accuracy"])
    for value in (0.1, 1 / 3, 0.7, 0.9123456789):
        reference, values = {"memory": 7.7, "accuracy": 0.0}, {"memory": value, "accuracy": value}
        assert normalised(objectives, reference, values) == (value / 7.7, 1 - value)


def test_one_entry_adds_an_objective() -> None:
    with registered(MADE_UP[3]) as activations:
        assert get_objectives(["activations", "memory"])[0] == activations
        assert known_values(MEMORY)["activations"] == 256.0
        assert parse_constraint("activations<=1GiB").bound == 1024.0


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective("memory", "minimize"), "objective 'memory': is there already"),
        (Objective("accuracy", "maximize"), "objective 'accuracy': is there already"),
        (Objective("top 5", "maximize"), "objective 'top 5': a name has letters, digits and '_'"),
        (Objective("margin", "maximize", unit="2s"), "unit '2s': must begin with no digit"),
        (Objective("margin", "maximize", worst=4.0, ideal=3.0), "the worst value, 4, is no worse than 3"),
        (Objective("speed", "maximize", value=lambda report: 1.0), "must say what the worst value is"),
    ],
    ids=lambda value: value.name if isinstance(value, Objective) else "",
)
def test_refuses_to_register_what_makes_no_sense(objective, words) -> None:
    with pytest.raises(UserError, match=words):
        register_objective(objective)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "name each of one or more"),
        (["memory", "memory"], "--objectives memory,memory: name each"),
        (["speed"], "unknown objective 'speed'; known: .*, accuracy, checkpoint, .*, loss, .*, step_time"),
    ],
    ids=str,
)
def test_refuses_what_is_no_objective(names, words) -> None:
    with pytest.raises(UserError, match=words):
        get_objectives(names)
