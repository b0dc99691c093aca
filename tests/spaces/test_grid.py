"""Grids: which values, which members, how many."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from spaces import SPACES, Space, SpaceContext, get_space, with_checkpointing
from spaces.grid import EndlessSpace, count, enumerate_space, on_grid
from trainables.errors import UserError
from trainables.parameters import Range

CONTEXT = SpaceContext({"text": 2, "image": 3}, {"text": 384, "image": 384})


def _space(sample: Any, *points: dict[str, Any]) -> Space:
    return Space("made", "", sample, lambda _: list(points))


def _conditional(trial: Any, context: SpaceContext) -> dict[str, Any]:
    main = trial.suggest_categorical("main", ["text", "image"])
    layers = trial.suggest_int("layers", 1, context.depths[main])
    return {
        "main": main,
        "layers": layers,
        "gates": trial.suggest_int("gates", 0, 4, step=2) if layers > 1 else 0,
    }


def test_all_members_are_walked_depth_first_with_conditions_and_changing_ranges() -> None:
    members = list(enumerate_space(_space(_conditional), CONTEXT))
    assert [tuple(member.config.values()) for member in members] == [
        ("text", 1, 0),
        *(("text", 2, gates) for gates in (0, 2, 4)),
        ("image", 1, 0),
        *(("image", layers, gates) for layers in (2, 3) for gates in (0, 2, 4)),
    ]
    assert members[0].values == {"main": "text", "layers": 1}
    assert members[1].parameters["gates"] == Range(0, 4, step=2)
    assert count(_space(_conditional), CONTEXT, limit=100) == len(members) == 11


def test_a_space_without_parameters_has_one_member() -> None:
    assert count(_space(lambda trial, context: {"method": "linear"}), CONTEXT, limit=1) == 1


def test_a_parameter_asked_for_twice_is_one_parameter() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        return {key: trial.suggest_int("x", 1, 2) for key in "ab"}

    found = [member.config for member in enumerate_space(_space(sample), CONTEXT)]
    assert found == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]


def _floats(trial: Any, context: SpaceContext) -> dict[str, Any]:
    kind = trial.suggest_categorical("kind", ["none", "some"])
    return {
        "kind": kind,
        "rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True) if kind == "some" else 0.0,
    }


def test_ranges_without_steps_are_endless_unless_points_are_given() -> None:
    space = _space(_floats)
    walk = enumerate_space(space, CONTEXT)
    assert next(walk).config == {"kind": "none", "rate": 0.0}
    with pytest.raises(EndlessSpace):
        next(walk)
    assert count(space, CONTEXT, limit=10**9) is None
    rates = [member.config["rate"] for member in enumerate_space(space, CONTEXT, points=3)]
    assert rates == [0.0, 1e-4, pytest.approx(1e-3), 1e-2]


def test_counting_stops_at_the_limit_and_counts_configurations_not_members() -> None:
    def rounding(trial: Any, context: SpaceContext) -> dict[str, Any]:
        return {"tens": trial.suggest_int("x", 0, 99) // 10}

    assert count(_space(rounding), CONTEXT, limit=10) == 10
    assert count(_space(rounding), CONTEXT, limit=9) is None


def _ranges(trial: Any, context: SpaceContext) -> dict[str, Any]:
    return {
        "few": trial.suggest_int("few", 1, 3),
        "many": trial.suggest_int("many", 1, 32, log=True),
        "steps": trial.suggest_int("steps", 48, 384, step=48),
        "share": trial.suggest_float("share", 0.0, 1.0),
        "half": trial.suggest_float("half", 0.0, 1.0, step=0.5),
    }


def test_a_grid_has_both_ends_and_even_values_between() -> None:
    members = list(enumerate_space(on_grid(_space(_ranges)), CONTEXT))
    values = {name: sorted({member.config[name] for member in members}) for name in members[0].config}
    assert values == {
        "few": [1, 2, 3],
        "many": [1, 2, 6, 13, 32],
        "steps": [48, 144, 240, 288, 384],
        "share": [0.0, 0.25, 0.5, 0.75, 1.0],
        "half": [0.0, 0.5, 1.0],
    }
    assert len(members) == 3 * 5 * 5 * 5 * 3
    assert all(type(member.config["many"]) is int for member in members[:9])


def test_what_is_between_two_points_goes_to_the_nearer_one() -> None:
    point = {"few": 2, "many": 4, "steps": 192, "share": 0.3, "half": 0.5}
    space = on_grid(_space(_ranges, point))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.first_points(CONTEXT)[0])
    config = space.sample(study.ask(), CONTEXT)
    assert config == {"few": 2, "many": 6, "steps": 144, "share": 0.25, "half": 0.5}
    assert space.at(point, CONTEXT).config == config
    assert space.parameters(CONTEXT) == _space(_ranges).parameters(CONTEXT)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_grid_with_its_own_ends(name) -> None:
    space = get_space(name)
    grid = on_grid(space, points=2)
    assert (grid.smallest(CONTEXT), grid.largest(CONTEXT)) == (
        space.smallest(CONTEXT),
        space.largest(CONTEXT),
    )
    first = next(enumerate_space(grid, CONTEXT))
    assert grid.sample(optuna.trial.FixedTrial(first.values), CONTEXT) == first.config
    assert len(grid.parts()) == len(space.parts()) if space.parts else grid.parts is None


def test_a_registered_grid_can_be_counted_with_checkpointing_too() -> None:
    space = get_space("linear")
    size = count(on_grid(space), CONTEXT, limit=1000)
    assert size == 5  # the learning rate's
    assert count(on_grid(with_checkpointing(space)), CONTEXT, limit=1000) == 2 * size
    assert count(with_checkpointing(on_grid(space)), CONTEXT, limit=1000) == 2 * size


def test_one_point_is_no_grid() -> None:
    with pytest.raises(UserError, match="at least 2"):
        on_grid(get_space("linear"), points=1)
