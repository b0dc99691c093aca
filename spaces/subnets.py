"""Spaces of subnets: the configurations that can share one supernet's weights."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from spaces.base import SPACES, Member, Space
from spaces.trials import Answer, AnsweringTrial, Ends
from trainables.errors import UserError
from trainables.methods import METHODS, get_method
from trainables.methods.space import SpaceContext, Trial, suggest
from trainables.parameters import Choices, Parameter


def subnet_space(space: Space, context: SpaceContext, learning_rate: float | None = None) -> Space:
    """Return the configurations of a space that share one supernet's weights.

    Only the method's elastic options vary. All other parameters have the values of the space's first point.
    If the space defines ``subnets``, it is used instead of ``sample``. For PMF, it draws a prompt length for
    each layer and modality.

    Args:
        space: The space of one method.
        context: The encoders' depths and widths.
        learning_rate: Learning rate of all configurations; None takes the first point's.

    Raises:
        UserError: If the space has no ``method``, or its method has no elastic options.
    """
    elastic = require_elastic(space)
    draw = space.subnets or space.sample
    points = space.first_points(context)
    fixed = {**space.at(points[0], context).values}
    if learning_rate is not None:
        fixed["learning_rate"] = learning_rate

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return draw(_fixing(trial, elastic, fixed), context)

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        found = [space_of.at(_Spread(point), context) for point in points]
        return [member.values for number, member in enumerate(found) if member not in found[:number]]

    space_of = Space(space.name, space.description, sample, first_points, method=space.method)
    return space_of


def require_elastic(space: Space) -> tuple[str, ...]:
    """Return the options of a space's method that may differ between subnets of one supernet.

    Raises:
        UserError: If the space has no ``method``, or its method has no elastic options.
    """
    elastic = get_method(space.method).method.elastic if space.method else ()
    if not elastic:
        usable = [
            s.name
            for s in SPACES.values()
            if s.method and s.method in METHODS and METHODS[s.method].method.elastic
        ]
        raise UserError(
            f"--strategy oneshot: the members of space '{space.name}' cannot share weights; "
            f"must be one of {', '.join(usable)}"
        )
    return elastic


def draw_member(space: Space, context: SpaceContext, rng: random.Random) -> Member:
    """Draw a member at random: numbers uniformly on the scale of their range, choices uniformly."""
    return space.answered(AnsweringTrial(_drawn(rng)), context)


class _Spread(dict[str, Any]):
    """Values by name, in which a look-up of ``x.text.0`` or ``x.image.0`` returns the value of ``x``."""

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


def _fixing(trial: Trial, elastic: tuple[str, ...], fixed: Mapping[str, Any]) -> AnsweringTrial:
    """Return a trial that forwards requests for elastic parameters to another trial.

    Args:
        trial: The other trial.
        elastic: Names of parameters, or their parts before the first dot.
        fixed: Values of the other parameters. A parameter that is missing here has its low end.
    """
    others = Ends("low", fixed)

    def answer(name: str, parameter: Parameter) -> Any:
        if name == "learning_rate" and name in fixed:  # a user's value may be out of range
            return fixed[name]
        if name.partition(".")[0] in elastic:
            return suggest(trial, name, parameter)
        return others(name, parameter)

    return AnsweringTrial(answer)


def _drawn(rng: random.Random) -> Answer:
    """Return a function that answers at random."""

    def answer(name: str, parameter: Parameter) -> Any:
        if isinstance(parameter, Choices):
            return rng.choice(parameter.values)
        if parameter.step is None or parameter.log:  # each whole number covers its part of the scale
            return parameter.at(rng.random())
        return parameter.low + rng.randrange(parameter.steps + 1) * parameter.step

    return answer
