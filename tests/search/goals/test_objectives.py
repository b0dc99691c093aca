from __future__ import annotations

import math

import pytest

from search.goals.objectives import (
    KNOWN,
    OBJECTIVES,
    get_objectives,
    known_values,
    late_reference,
    normalised,
    reference_values,
)
from search.goals.pareto import hypervolume
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
    assert tuple(values) == KNOWN


def test_directions() -> None:
    maximised = {name for name, objective in OBJECTIVES.items() if objective.direction == "maximize"}
    assert maximised == {"accuracy", "macro_f1"}
    assert OBJECTIVES["accuracy"].loss(0.75) == -0.75
    assert OBJECTIVES["step_time"].loss(0.75) == 0.75


def test_all_but_the_step_time_have_a_reference_from_the_start() -> None:
    reference = reference_values(
        get_objectives(list(OBJECTIVES)), guess={"loss": math.log(4)}, memory=8.0, params=1e6, checkpoint=2.0
    )
    expected = {"memory": 8.0, "params": 1e6, "checkpoint": 2.0, "accuracy": 0.0, "macro_f1": 0.0}
    assert reference == {**expected, "loss": math.log(4)}


def test_the_first_step_time_gives_its_reference() -> None:
    objectives = get_objectives(["step_time", "accuracy"])
    reference = reference_values(objectives, guess={"loss": math.log(4)})
    first, slow = {"step_time": 0.2, "accuracy": 0.5}, {"step_time": 3.0, "accuracy": 0.9}

    def dominated(*trials: dict[str, float]) -> float:
        return hypervolume([normalised(objectives, reference, values) for values in trials], (1.0, 1.0))

    assert normalised(objectives, reference, first) == (1.0, 0.5)
    assert dominated(first, slow) == 0
    reference["step_time"] = late_reference(objectives[0], first)
    assert normalised(objectives, reference, first) == pytest.approx((0.1, 0.5))
    assert dominated(first) == pytest.approx(0.9 * 0.5)
    assert dominated(first, slow) == dominated(first)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "name each of one or more"),
        (["memory", "memory"], "--objectives memory,memory: name each"),
        (["speed"], "unknown objective 'speed'; known: accuracy, checkpoint, loss, .*, step_time"),
    ],
    ids=str,
)
def test_refuses_what_is_no_objective(names, words) -> None:
    with pytest.raises(UserError, match=words):
        get_objectives(names)
