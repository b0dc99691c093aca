"""Spaces: a space is a function that samples configurations, with the points to try first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spaces.trials import AnsweringTrial, Ends, renamed
from trainables.errors import UserError
from trainables.methods import METHODS, MethodSpec
from trainables.methods.space import Draw, FirstPoints, SpaceContext, Trial
from trainables.parameters import Choices, Parameter
from trainables.registry import Registry

#: The parameter that turns gradient checkpointing on and off.
CHECKPOINTING = "gradient_checkpointing"


@dataclass(frozen=True)
class Member:
    """One configuration of a space, and the parameter values that give it.

    Attributes:
        config: The configuration.
        values: The parameters' values, by name.
        parameters: The parameters, by name.
    """

    config: dict[str, Any]
    values: dict[str, Any]
    parameters: dict[str, Parameter]


@dataclass(frozen=True)
class Space:
    """A set of configurations.

    Attributes:
        name: Name on the command line.
        description: One line for listings.
        sample: Draws a configuration (``method``, ``learning_rate`` and the method's fields) through an
            Optuna trial. Parameters may depend on each other. The low end, or first choice, of every
            parameter must need the least memory. Choices without such an order are
            ``Choices(…, ordered=False)``.
        first_points: Returns the parameter values to evaluate first: the papers' settings.
        method: The method whose default space this is; None if it is not a default space.
        parts: For a union, returns its parts; else None.
        subnets: Draws a configuration for one-shot search, where options may differ from layer to layer. A
            parameter has the name of the method's option, with a suffix if the option has several values
            (``n_query_prompts.text.0``). None takes ``sample``.
    """

    name: str
    description: str
    sample: Draw
    first_points: FirstPoints
    method: str | None = None
    parts: Callable[[], Sequence[Space]] | None = None
    subnets: Draw | None = None

    def smallest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return the configurations with every parameter at its low end; see ``ends``."""
        return [member.config for member in self.ends("low", context)]

    def largest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return the configurations with every parameter at its high end, in the same order."""
        return [member.config for member in self.ends("high", context)]

    def parameters(self, context: SpaceContext) -> dict[str, Parameter]:
        """Return the parameters of the smallest and largest members, by name."""
        found: dict[str, Parameter] = {}
        for member in (*self.ends("low", context), *self.ends("high", context)):
            found |= member.parameters
        return found

    def at(self, values: Mapping[str, Any], context: SpaceContext) -> Member:
        """Return the member with the given values, moved into range, and all other parameters lowest."""
        return self.answered(AnsweringTrial(Ends("low", values)), context)

    def ends(self, end: str, context: SpaceContext) -> list[Member]:
        """Return the members with every parameter at one end, one for each value of unordered choices.

        Args:
            end: ``low`` or ``high``.
            context: The encoders' depths and widths.
        """
        done: list[Member] = []
        todo: list[dict[str, Any]] = [{}]
        while todo:
            ends = Ends(end, todo.pop(0))
            member = self.answered(AnsweringTrial(ends), context)
            if ends.undecided is None:
                done.append(member)
            else:
                choices = member.parameters[ends.undecided]
                assert isinstance(choices, Choices)
                todo = [{**ends.chosen, ends.undecided: choice} for choice in choices] + todo
        return done

    def left_out(self, context: SpaceContext) -> dict[str, str]:
        """Return the methods of a union that cannot fuse the encoders, with the reason of each."""
        return refusals(self.parts(), context) if self.parts else {}

    def answered(self, trial: AnsweringTrial, context: SpaceContext) -> Member:
        """Return the member that a trial's answers give."""
        return Member(self.sample(trial, context), trial.values, trial.parameters)


SPACES: Registry[Space] = Registry("space")


def register_space(space: Space) -> Space:
    """Register a space under its name, and return it.

    Raises:
        UserError: If another module has already registered the name.
    """
    SPACES.register(space.name, space, sys._getframe(1).f_globals["__name__"])
    return space


def get_space(name: str) -> Space:
    """Return a registered space.

    Raises:
        UserError: If the name is unknown; the message lists the registered names.
    """
    return SPACES[name]


def _register_default(name: str, spec: MethodSpec, module: str) -> None:
    """Register the default space that a method's file declares, under the method's name."""
    if (declared := spec.space) is None:
        return

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return {"method": name, **declared.draw(trial, context)}

    description = f"{declared.description}, learning rate"
    SPACES.register(name, Space(name, description, sample, declared.points, method=name), module)


METHODS.listen(_register_default)


def union(name: str, description: str, parts: Callable[[], Sequence[Space]]) -> Space:
    """Return the union of several methods' spaces, in which the method is the first parameter.

    Methods that refuse the encoders are left out; see ``Space.left_out``.

    Parameter ``x`` of a part is named ``METHOD.x``, so that samplers keep the methods' parameters apart. The
    first points are the first point of every part, in the order of the parts, then the second ones and so on.

    Args:
        name: Name on the command line.
        description: One line for listings.
        parts: Returns the parts, one space per method. It is called for every sample, so that the union
            includes spaces that are registered later.
    """

    def by_method(context: SpaceContext) -> dict[str, Space]:
        spaces = {space.method or space.name: space for space in parts()}
        out = refusals(parts(), context)
        if len(out) == len(spaces):
            reasons = "; ".join(f"{method} {reason}" for method, reason in out.items())
            raise UserError(f"space '{name}': none of its methods can fuse these modalities: {reasons}")
        return {method: space for method, space in spaces.items() if method not in out}

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        spaces = by_method(context)
        method = trial.suggest_categorical("method", Choices(tuple(spaces), ordered=False))
        return spaces[method].sample(renamed(trial, f"{method}."), context)

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        points = {method: space.first_points(context) for method, space in by_method(context).items()}
        rounds = max(len(of_method) for of_method in points.values())
        return [
            {"method": method, **{f"{method}.{key}": value for key, value in of_method[number].items()}}
            for number in range(rounds)
            for method, of_method in points.items()
            if number < len(of_method)
        ]

    return Space(name, description, sample, first_points, parts=parts)


def refusals(parts: Sequence[Space], context: SpaceContext) -> dict[str, str]:
    """Return the methods of some spaces that cannot fuse the encoders, with the reason of each.

    Args:
        parts: Spaces of one method each. A space that states no method is never left out.
        context: Properties of the encoders.
    """
    methods = [space.method for space in parts if space.method]
    found = {method: METHODS[method].method.refusal(context) for method in methods if method in METHODS}
    return {method: reason for method, reason in found.items() if reason is not None}


def starting_at(space: Space, method: str, values: Mapping[str, Any]) -> Space:
    """Return a space in which the first points of a method have some values, such as those of a paper.

    Args:
        space: The space.
        method: The method whose first points change.
        values: Parameter values by name. Parameters that a point does not have are left out.
    """

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        return [_started(point, context) for point in space.first_points(context)]

    def _started(point: dict[str, Any], context: SpaceContext) -> dict[str, Any]:
        if space.at(point, context).config["method"] != method:
            return point
        prefix = f"{method}." if space.parts else ""
        return {**point, **{prefix + k: v for k, v in values.items() if prefix + k in point}}

    return replace(space, first_points=first_points)


def with_checkpointing(space: Space) -> Space:
    """Return a space with each configuration of another one, with and without gradient checkpointing.

    Checkpointing needs less memory, so it is the first choice. The first points do not use it.

    Args:
        space: The space whose configurations get a field ``gradient_checkpointing``.
    """

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        config = space.sample(trial, context)
        return {**config, CHECKPOINTING: trial.suggest_categorical(CHECKPOINTING, [True, False])}

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        return [{**point, CHECKPOINTING: False} for point in space.first_points(context)]

    def parts() -> Sequence[Space]:
        return [with_checkpointing(part) for part in space.parts()] if space.parts else ()

    return replace(
        space,
        description=f"{space.description}, gradient checkpointing",
        sample=sample,
        first_points=first_points,
        parts=parts if space.parts else None,
    )
