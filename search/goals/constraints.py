"""Constraints on results: ``memory<=8GiB``, ``params<=5M``, ``accuracy>=60%``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from search.goals.objectives import Objective, always_reported, get_objectives
from search.goals.pareto import Array
from search.goals.quantities import quantity_of
from trainables.errors import UserError
from trainables.tasks import Task

#: By how much what training decides may miss a bound, as a share of it, and still meet it: metrics are
#: computed in float32, where 280 of 400 is a little less than 0.7.
_ROUNDING = 1e-6

_Value = TypeVar("_Value", float, Array)


@dataclass(frozen=True)
class Constraint:
    """A bound on an objective.

    Attributes:
        objective: The objective.
        bound: The bound, above 0, in the objective's unit; it satisfies the constraint itself.
        direction: ``<=`` or ``>=``.
    """

    objective: Objective
    bound: float
    direction: str

    @property
    def name(self) -> str:
        """The objective's name."""
        return self.objective.name

    @property
    def known(self) -> bool:
        """Whether the constraint can be checked before training."""
        return self.objective.known

    @property
    def is_budget(self) -> bool:
        """Whether the constraint limits what a configuration takes, which is known before training."""
        return self.known and self.direction == "<="

    def violation(self, values: Mapping[str, float]) -> float:
        """Return by how much values miss the bound, as a share of it; <= 0 if the constraint is satisfied.

        Relative violations of several constraints can be added.

        Args:
            values: The objectives' values, in their units.
        """
        missed = self._missed(values[self.name])
        return 0.0 if 0 < missed <= self._slack else missed

    def met_by(self, values: Array) -> NDArray[np.bool_]:
        """Return which of some values of the objective satisfy the constraint."""
        return self._missed(values) <= self._slack

    def _missed(self, value: _Value) -> _Value:
        """Return by how much one or several values of the objective miss the bound, as a share of it."""
        excess = (value - self.bound) / self.bound
        return excess if self.direction == "<=" else -excess

    @property
    def _slack(self) -> float:
        return 0.0 if self.known else _ROUNDING

    def __str__(self) -> str:
        return f"{self.name}{self.direction}{quantity_of(self.objective).write(self.bound)}"


def parse_constraint(text: str) -> Constraint:
    """Return the constraint that a text such as ``memory<=8GiB`` describes.

    >>> round(parse_constraint("memory<=8GiB").violation({"memory": 10.0}), 2)
    0.25

    Raises:
        UserError: If the text is not a bound on one of the objectives.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([^<>=]+?)\s*", text)
    if match is None:
        raise UserError(
            f"--constraint {text}: write an objective, <= or >=, and a value: memory<=8GiB, accuracy>=60%"
        )
    name, direction, value = match.groups()
    try:
        (objective,) = get_objectives([name])
        return Constraint(objective, quantity_of(objective).read(value), direction)
    except UserError as error:
        raise UserError(f"--constraint {text}: {error}") from None


def parse_constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """Return the constraints that several texts describe, without duplicates.

    Raises:
        UserError: If a text is not a constraint, or if no value can satisfy two of them.
    """
    constraints = tuple(dict.fromkeys(parse_constraint(text) for text in texts))
    for upper in constraints:
        for lower in constraints:
            if (upper.name, upper.direction, lower.direction) != (lower.name, "<=", ">="):
                continue
            if lower.bound > upper.bound:
                raise UserError(f"--constraint {upper} and --constraint {lower}: nothing can keep both")
    return constraints


def objectives_read(
    objectives: Sequence[str] | None, constraints: Sequence[str], task: Task
) -> tuple[Objective, ...]:
    """Return the objectives whose values a search needs: its own, and those of its constraints.

    Args:
        objectives: Names of the search's objectives; None is the task's default.
        constraints: Its constraints.
        task: The task whose metrics are accepted as objectives.

    Raises:
        UserError: If one of them is not accepted.
    """
    bounded = [constraint.objective for constraint in parse_constraints(constraints)]
    named = always_reported(task) if objectives is None else get_objectives(objectives, task)
    return tuple(dict.fromkeys([*named, *bounded]))
