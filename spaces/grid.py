"""Spaces as grids: a few values of every range, and all members one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from spaces.base import Member, Space
from spaces.trials import AnsweringTrial
from trainables.errors import UserError
from trainables.methods.space import SpaceContext, Trial, suggest
from trainables.parameters import Parameter, Range

#: Values that a grid takes of a range.
POINTS = 5


class EndlessSpace(ValueError):
    """A space whose members cannot be counted, because of a range without steps."""


@dataclass(frozen=True)
class GridSpace(Space):
    """A space whose ranges have a few values each; see ``on_grid``.

    Attributes:
        points: The most values that a range has.
    """

    points: int = POINTS


def on_grid(space: Space, points: int = POINTS) -> GridSpace:
    """Return a space with at most so many values in every range, its low and high end among them.

    Ranges without steps, and those of more than so many steps, are thinned out evenly, on a log scale where
    the range has one. Parameters keep their names and ranges: a value between two of the grid's, such as one
    of a first point, is moved to the nearer one.

    Args:
        space: The space.
        points: The most values of a range, 2 or more.

    Raises:
        UserError: If there are fewer than 2.
    """
    if points < 2:
        raise UserError(f"grid of {points} points: a range needs at least 2, its two ends")

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return space.sample(_snapping(trial, points), context)

    def parts() -> Sequence[Space]:
        return [on_grid(part, points) for part in space.parts()] if space.parts else ()

    kept = {field.name: getattr(space, field.name) for field in fields(Space)}
    changed = {"sample": sample, "parts": parts if space.parts else None, "points": points}
    return GridSpace(**{**kept, **changed})


def enumerate_space(space: Space, context: SpaceContext, points: int | None = None) -> Iterator[Member]:
    """Walk all members of a space, depth first: the parameter that was asked for last changes fastest.

    Members may differ in their parameters and yet share a configuration, where a space rounds, for example.

    Args:
        space: The space, with conditional parameters or not.
        context: The encoders' depths and widths.
        points: Values that ranges without steps are given; None leaves them as they are. Of a space on a
            grid, all ranges have the grid's values instead.

    Raises:
        EndlessSpace: On the way, where a range without steps is met and no number of points was given.
    """
    thinned = space.points if isinstance(space, GridSpace) else None
    path: list[int] = []
    while True:
        walk = _Walk(path, thinned or points, thinned)
        yield space.answered(AnsweringTrial(walk), context)
        path = walk.path[: len(walk.sizes)]
        while path and path[-1] + 1 == walk.sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def count(space: Space, context: SpaceContext, limit: int) -> int | None:
    """Return how many different configurations a space holds, or None if endless or more than a limit."""
    found: set[str] = set()
    try:
        for member in enumerate_space(space, context):
            found.add(json.dumps(member.config, sort_keys=True, default=str))
            if len(found) > limit:
                return None
    except EndlessSpace:
        return None
    return len(found)


def _snapping(trial: Trial, points: int) -> AnsweringTrial:
    """Return a trial that passes on what it is asked for, and moves numbers to a grid."""

    def answer(name: str, parameter: Parameter) -> Any:
        value = suggest(trial, name, parameter)
        if isinstance(parameter, Range):
            return parameter.grid(points)[parameter.nearest(value, points)]
        return value

    return AnsweringTrial(answer)


@dataclass
class _Walk:
    """Answers with the values that a path names, by index, and the first ones where the path ends.

    Attributes:
        path: Indices of the values, in the order in which parameters are asked for; grows to the path taken.
        points: Values of ranges without steps, or None.
        thinned: The most values of ranges with steps, or None for all.
        sizes: Number of values of every parameter met.
    """

    path: list[int]
    points: int | None
    thinned: int | None
    sizes: list[int] = field(default_factory=list)

    def __call__(self, name: str, parameter: Parameter) -> Any:
        """Return the path's next value.

        Raises:
            EndlessSpace: If there are endless ones.
        """
        endless = isinstance(parameter, Range) and parameter.endless
        points = self.points if endless else self.thinned
        if endless and points is None:
            raise EndlessSpace(f"{name}: there are no steps between its ends, its values cannot be counted")
        values = parameter.grid(points)
        if len(self.sizes) == len(self.path):
            self.path.append(0)
        index = self.path[len(self.sizes)]
        self.sizes.append(len(values))
        return values[index]
