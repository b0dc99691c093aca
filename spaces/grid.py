"""Spaces as grids: a few values of every range, and all members one after the other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from spaces.base import Member, Space, SpaceContext, Trial
from trainables.errors import UserError

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
        return space.sample(_Snapping(trial, points), context)

    def members() -> Sequence[Space]:
        return [on_grid(member, points) for member in space.members()] if space.members else ()

    kept = {field.name: getattr(space, field.name) for field in fields(Space)}
    changed = {"sample": sample, "members": members if space.members else None, "points": points}
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
        yield Member(space.sample(walk, context), walk.values, walk.parameters)
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


@lru_cache(typed=True)  # 1 and 1.0 are different answers
def grid_values(
    low: float, high: float, step: float | None, log: bool, points: int | None
) -> tuple[float, ...]:
    """Return the values that a grid takes of a range, in rising order; whole ones of a whole range.

    Args:
        low: Lowest value.
        high: Highest value, if the steps reach it.
        step: Distance of neighbouring values, or None if there are all between the ends.
        log: Whether to spread the values evenly on a log scale.
        points: The most values, 2 or more; None for all.

    Raises:
        EndlessSpace: If there is neither a step nor a number of points.
    """
    if low == high:
        return (low,)
    if step is not None:
        steps = math.floor((high - low) / step + 1e-9)  # of floats, the last step may end just above
        if points is None or steps < points:
            return tuple(low + index * step for index in range(steps + 1))
        high = low + steps * step
    elif points is None:
        raise EndlessSpace(f"no steps between {low:g} and {high:g}: the values cannot be counted")
    shares = [index / (points - 1) for index in range(1, points - 1)]
    between = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    if step is None:
        return (low, *between, high)
    # Near the low end of a log scale, two points may share a step.
    return tuple(dict.fromkeys([low, *(low + round((v - low) / step) * step for v in between), high]))


def place_in_range(value: float, low: float, high: float, log: bool) -> float:
    """Return where in a range a number lies, 0 to 1, on the scale of the range."""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.0


def nearest(value: float, values: Sequence[float], log: bool) -> int:
    """Return the index of the value that is nearest to another one."""
    if log:
        return min(range(len(values)), key=lambda index: abs(math.log(values[index] / value)))
    return min(range(len(values)), key=lambda index: abs(values[index] - value))


@dataclass(frozen=True)
class _Snapping:
    """A trial whose numbers are moved to a grid."""

    trial: Trial
    points: int

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.trial.suggest_int(name, low, high, step=step, log=log)
        return int(self._snapped(value, low, high, step, log))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value = self.trial.suggest_float(name, low, high, step=step, log=log)
        return self._snapped(value, low, high, step, log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.trial.suggest_categorical(name, choices)

    def _snapped(self, value: float, low: float, high: float, step: float | None, log: bool) -> float:
        values = grid_values(low, high, step, log, self.points)
        return values[nearest(value, values, log)]


@dataclass
class _Walk:
    """A trial that takes the values a path names, by index, and the first ones where the path ends.

    Attributes:
        path: Indices of the values, in the order in which parameters are asked for; grows to the path taken.
        points: Values of ranges without steps, or None.
        thinned: The most values of ranges with steps, or None for all.
        sizes: Number of values of every parameter met.
        values: What was answered, by name.
        parameters: What was asked: ranges by name.
    """

    path: list[int]
    points: int | None
    thinned: int | None
    sizes: list[int] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        asked = {"type": "int", "low": low, "high": high, "step": step, "log": log}
        return int(self._take(name, asked, grid_values(low, high, step, log, self.thinned)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        asked = {"type": "float", "low": low, "high": high, "step": step, "log": log}
        points = self.points if step is None else self.thinned
        return float(self._take(name, asked, grid_values(low, high, step, log, points)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._take(name, {"type": "categorical", "choices": list(choices)}, choices)

    def _take(self, name: str, asked: dict[str, Any], values: Sequence[Any]) -> Any:
        if name in self.values:  # asked for twice, answered alike, as Optuna does
            return self.values[name]
        if len(self.sizes) == len(self.path):
            self.path.append(0)
        self.parameters[name] = asked
        self.values[name] = values[self.path[len(self.sizes)]]
        self.sizes.append(len(values))
        return self.values[name]
