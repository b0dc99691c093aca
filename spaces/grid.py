"""Grids: spaces with a few values in every range, and the enumeration of all members of a space."""

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

#: Default maximum number of values that a grid takes from a range.
POINTS = 5


class EndlessSpace(ValueError):
    """Raised when the members of a space cannot be counted because a range has no steps."""


@dataclass(frozen=True)
class GridSpace(Space):
    """A space whose ranges have a few values each; see ``on_grid``.

    Attributes:
        points: Maximum number of values in a range.
    """

    points: int = POINTS


def on_grid(space: Space, points: int = POINTS) -> GridSpace:
    """Return a space with at most ``points`` values in every range, both ends among them.

    A range with more values, or without steps, is thinned out evenly on its own scale, linear or log.
    Parameters keep their names and ranges. A value that is not on the grid, for example one of a first point,
    is moved to the nearest value on the grid.

    Args:
        space: The space.
        points: Maximum number of values in a range, 2 or more.

    Raises:
        UserError: If ``points`` is less than 2.
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
    """Yield all members of a space, depth first: the parameter that ``sample`` requests last changes fastest.

    Members with different parameter values may have the same configuration, for example if the space rounds.

    Args:
        space: The space. It may have conditional parameters.
        context: The encoders' depths and widths.
        points: Number of values that are taken from a range without steps; None refuses such a range. For a
            ``GridSpace`` the argument is ignored, and all ranges have the grid's values.

    Raises:
        EndlessSpace: During iteration, if a range has no steps and ``points`` is None.
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
    """Return the number of different configurations of a space; None if it is infinite or over the limit."""
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
    """Return a trial that forwards requests to another trial and moves the numbers to a grid."""

    def answer(name: str, parameter: Parameter) -> Any:
        value = suggest(trial, name, parameter)
        if isinstance(parameter, Range):
            return parameter.grid(points)[parameter.nearest(value, points)]
        return value

    return AnsweringTrial(answer)


@dataclass
class _Walk:
    """Answers parameters with the values at given indices, and with the first value after the last index.

    Attributes:
        path: Index of each parameter's value, in the order of requests. It grows with further requests.
        points: Number of values of ranges without steps; None refuses them.
        thinned: Maximum number of values of ranges with steps; None takes all.
        sizes: Number of values of each requested parameter.
    """

    path: list[int]
    points: int | None
    thinned: int | None
    sizes: list[int] = field(default_factory=list)

    def __call__(self, name: str, parameter: Parameter) -> Any:
        """Return the next value on the path.

        Raises:
            EndlessSpace: If the range has no steps and ``points`` is None.
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
