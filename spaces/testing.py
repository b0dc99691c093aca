"""Checks that every space must pass. The tests of a plugin may call them, too.

>>> from spaces import SpaceContext, get_space
>>> check_space(get_space("pmf"), SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384}))
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from spaces.base import Member, Space
from spaces.subnets import draw_member
from trainables.configuration import recipe_changes, setting_changes, split_config
from trainables.methods import get_method
from trainables.methods.space import SpaceContext
from trainables.step import Recipe, TrainingSetting


def check_space(space: Space, context: SpaceContext, draws: int = 20, seed: int = 0) -> None:
    """Check a space's first points, its ends and some members that are drawn at random.

    Args:
        space: The space.
        context: The encoders' depths and widths.
        draws: Number of members to draw.
        seed: Seed of the draws.

    Raises:
        AssertionError: If a check fails; the message names the member or parameter.
        UserError: If a method does not accept a configuration of the space.
    """
    points = space.first_points(context)
    assert points, f"space '{space.name}' has no first points"
    parameters = space.parameters(context)
    for point in points:
        unknown = set(point) - set(parameters)
        assert not unknown, f"first point {point}: no such parameters: {', '.join(sorted(unknown))}"
        member = space.at(point, context)
        _check_point(point, member)
        _check_member(space, context, member)
    ends = (*space.ends("low", context), *space.ends("high", context))
    rng = random.Random(seed)
    for member in (*ends, *(draw_member(space, context, rng) for _ in range(draws))):
        _check_member(space, context, member)


def _check_point(point: Mapping[str, Any], member: Member) -> None:
    """Check that a first point has exactly the parameters of its member, with values in range."""
    lacking = set(member.values) - set(point)
    assert not lacking, f"first point {point}: no value for {', '.join(sorted(lacking))}"
    extra = set(point) - set(member.values)
    assert not extra, f"first point {point}: nothing asks for {', '.join(sorted(extra))}"
    moved = {name: value for name, value in point.items() if member.values[name] != value}
    assert not moved, f"first point {point}: out of range: {', '.join(sorted(moved))}"


def _check_member(space: Space, context: SpaceContext, member: Member) -> None:
    method, fields = split_config(member.config)
    get_method(method).config_class.from_dict(fields)
    TrainingSetting(**setting_changes(member.config))
    Recipe(**recipe_changes(member.config))
    assert json.loads(json.dumps(member.config)) == member.config, f"{member.config}: not what JSON holds"
    assert member.config["learning_rate"] > 0, f"{member.config}: no learning rate"
    assert space.at(member.values, context).config == member.config, f"{member.values}: not always the same"
    for name, value in member.values.items():
        asked = member.parameters[name]
        assert asked.holds(value), f"{name}={value}: not one of {asked}"
