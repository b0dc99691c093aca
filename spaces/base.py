"""What a space is: a function that samples configurations, and the points to try first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spaces.trials import AnsweringTrial, Ends, renamed
from trainables.methods import METHODS, MethodSpec
from trainables.methods.space import Draw, FirstPoints, SpaceContext, Trial
from trainables.parameters import Choices, Parameter
from trainables.registry import Registry

#: The parameter that turns gradient checkpointing on and off.
CHECKPOINTING = "gradient_checkpointing"


@dataclass(frozen=True)
class Member:
    """One configuration of a space, and the parameter values that lead to it.

    Attributes:
        config: The configuration.
        values: The parameters' values, by name.
        parameters: What these were taken from, by name.
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
            Optuna trial; parameters may depend on each other. By convention the low end, or first choice,
            of every parameter is its cheapest in memory; choices without such an order are ``Choices`` that
            say so.
        first_points: Parameter values to evaluate first: the papers' settings.
        method: The method whose default space this is, if it is one's.
        parts: Returns the spaces that this one is the union of, if it is one.
        subnets: Draws a configuration as ``sample`` does, in finer steps: what one supernet serves can be
            told apart layer by layer. Its parameters are called as the method's options, with a suffix
            (``n_query_prompts.text.0``) where there are several. None takes ``sample``.
    """

    name: str
    description: str
    sample: Draw
    first_points: FirstPoints
    method: str | None = None
    parts: Callable[[], Sequence[Space]] | None = None
    subnets: Draw | None = None

    def smallest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return the configurations with every parameter at its low end: one an unordered choice."""
        return [member.config for member in self.ends("low", context)]

    def largest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return those with every parameter at its high end, in the same order."""
        return [member.config for member in self.ends("high", context)]

    def parameters(self, context: SpaceContext) -> dict[str, Parameter]:
        """Return the parameters met on the way to the smallest and largest members, by name."""
        found: dict[str, Parameter] = {}
        for member in (*self.ends("low", context), *self.ends("high", context)):
            found |= member.parameters
        return found

    def at(self, values: Mapping[str, Any], context: SpaceContext) -> Member:
        """Return the member with some parameters' values given, the nearest in range, all others lowest."""
        return self.answered(AnsweringTrial(Ends("low", values)), context)

    def ends(self, end: str, context: SpaceContext) -> list[Member]:
        """Return the members with every parameter at its ``low`` or ``high`` end: one an unordered choice."""
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

    def answered(self, trial: AnsweringTrial, context: SpaceContext) -> Member:
        """Return the member that a trial's answers lead to."""
        return Member(self.sample(trial, context), trial.values, trial.parameters)


SPACES: Registry[Space] = Registry("space")


def register_space(space: Space) -> Space:
    """Put a space in the registry.

    Raises:
        UserError: If another module has registered one of that name.
    """
    SPACES.register(space.name, space, sys._getframe(1).f_globals["__name__"])
    return space


def get_space(name: str) -> Space:
    """Return a registered space.

    Raises:
        UserError: If there is none of that name; the message lists those that exist.
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
    """Return the union of methods' spaces: first the method, then its own parameters, one front over all.

    A part's parameter ``x`` is called ``METHOD.x``, so that a sampler never takes one method's for another's.
    The first point of every part comes first, in the order of the parts, then the second ones.

    Args:
        name: Name on the command line.
        description: One line for listings.
        parts: Returns spaces that have a ``method``; asked anew each time, so that spaces registered later
            belong to it too.
    """

    def by_method() -> dict[str, Space]:
        return {space.method or space.name: space for space in parts()}

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        spaces = by_method()
        method = trial.suggest_categorical("method", Choices(tuple(spaces), ordered=False))
        return spaces[method].sample(renamed(trial, f"{method}."), context)

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        points = {method: space.first_points(context) for method, space in by_method().items()}
        rounds = max(len(of_method) for of_method in points.values())
        return [
            {"method": method, **{f"{method}.{key}": value for key, value in of_method[number].items()}}
            for number in range(rounds)
            for method, of_method in points.items()
            if number < len(of_method)
        ]

    return Space(name, description, sample, first_points, parts=parts)


def with_checkpointing(space: Space) -> Space:
    """Return a space's configurations with and without gradient checkpointing.

    Checkpointing is the cheaper choice and comes first; the first points are the papers', without it.

    Args:
        space: The space; its configurations get a field ``gradient_checkpointing``.
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
