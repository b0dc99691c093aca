"""Spaces of subnets: what one supernet can serve."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spaces.base import SPACES, Member, Probe, Space, SpaceContext, Trial
from trainables.errors import UserError
from trainables.methods import METHODS, get_method


def subnet_space(space: Space, context: SpaceContext, learning_rate: float | None = None) -> Space:
    """Return the configurations of a space that share one supernet's weights.

    Only what the method calls elastic varies; all else stays as in the space's first point. Where the space
    says how to draw subnets, it is asked, which may be in finer steps: PMF's prompt lengths for each layer
    and modality.

    Args:
        space: The space of one method.
        context: The encoders' depths and widths.
        learning_rate: Of all configurations; None takes the first point's.

    Raises:
        UserError: If the space is not of one method, or nothing of that method is elastic.
    """
    elastic = require_elastic(space)
    draw = space.subnets or space.sample
    points = space.first_points(context)
    fixed = {**space.at(points[0], context).values}
    if learning_rate is not None:
        fixed["learning_rate"] = learning_rate

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return draw(_Fixing(trial, elastic, fixed), context)

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        found = [space_of.at(_Spread(point), context) for point in points]
        return [member.values for number, member in enumerate(found) if member not in found[:number]]

    space_of = Space(space.name, space.description, sample, first_points, method=space.method)
    return space_of


def require_elastic(space: Space) -> tuple[str, ...]:
    """Return the options of a space's method with which subnets of one supernet may differ.

    Raises:
        UserError: If the space is not of one method, or nothing of that method is elastic.
    """
    elastic = get_method(space.method).method.elastic if space.method else ()
    if not elastic:
        usable = [s.name for s in SPACES.values() if s.method in METHODS and METHODS[s.method].method.elastic]
        raise UserError(
            f"--strategy oneshot: the members of space '{space.name}' cannot share weights; "
            f"must be one of {', '.join(usable)}"
        )
    return elastic


def draw_member(space: Space, context: SpaceContext, rng: random.Random) -> Member:
    """Draw a member at random: numbers evenly on the scale of their range, choices evenly."""
    trial = _RandomTrial(rng)
    return Member(space.sample(trial, context), trial.values, trial.parameters)


class _Spread(dict[str, Any]):
    """Values by name, where ``x`` also answers for ``x.text.0``, ``x.image.0`` and so on."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).partition(".")[0])

    def __missing__(self, name: str) -> Any:
        base, suffixed, _ = name.partition(".")
        if not suffixed:
            raise KeyError(name)
        return self[base]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value, or the default."""
        try:
            return self[name]
        except KeyError:
            return default


@dataclass(frozen=True)
class _Fixing:
    """A trial that is only asked for what is elastic.

    Attributes:
        trial: Is asked.
        elastic: Names of parameters, or their first parts.
        fixed: What the others are; their low end if they are not in there.
    """

    trial: Trial
    elastic: tuple[str, ...]
    fixed: Mapping[str, Any]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._of(name).suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name == "learning_rate" and name in self.fixed:  # the user's word, in range or not
            return self.fixed[name]
        return self._of(name).suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._of(name).suggest_categorical(name, choices)

    def _of(self, name: str) -> Trial:
        return self.trial if name.partition(".")[0] in self.elastic else Probe("low", self.fixed)


@dataclass
class _RandomTrial:
    """A trial whose answers are drawn."""

    rng: random.Random
    values: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        asked = {"type": "int", "low": low, "high": high, "step": step, "log": log}
        if log:  # every number has its part of the scale
            drawn = round(math.exp(self.rng.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            return int(self._take(name, asked, min(max(drawn, low), high)))
        return int(self._take(name, asked, self.rng.randrange(low, high + 1, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        asked = {"type": "float", "low": low, "high": high, "step": step, "log": log}
        if step is not None:
            drawn = low + step * self.rng.randrange(math.floor((high - low) / step + 1e-9) + 1)
        elif log:
            drawn = math.exp(self.rng.uniform(math.log(low), math.log(high)))
        else:
            drawn = self.rng.uniform(low, high)
        return float(self._take(name, asked, min(max(drawn, low), high)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._take(name, {"type": "categorical", "choices": choices}, self.rng.choice(choices))

    def _take(self, name: str, asked: dict[str, Any], value: Any) -> Any:
        self.parameters[name] = asked
        return self.values.setdefault(name, value)
