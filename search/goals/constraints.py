"""What a result must keep to: ``memory<=8GiB``, ``params<=5M``, ``accuracy>=60%``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from search.goals.objectives import KNOWN, MIB, OBJECTIVES
from search.units import GIB, parse_size
from trainables.errors import UserError, unknown


@dataclass(frozen=True)
class Constraint:
    """A bound on an objective.

    Attributes:
        name: The objective's.
        bound: The value that may just be reached, above 0, in the objective's unit.
        direction: ``<=`` or ``>=``.
    """

    name: str
    bound: float
    direction: str

    @property
    def known(self) -> bool:
        """Whether it can be judged before anything is trained."""
        return self.name in KNOWN

    def violation(self, values: Mapping[str, float]) -> float:
        """Return by how much values miss the bound, relative to it; 0 or less if it is kept.

        Being relative, the violations of several constraints can be added.

        Args:
            values: The objectives' values, in their units.
        """
        excess = (values[self.name] - self.bound) / self.bound
        return excess if self.direction == "<=" else -excess

    def __str__(self) -> str:
        return f"{self.name}{self.direction}{_QUANTITIES[self.name].write(self.bound)}"


def parse_constraint(text: str) -> Constraint:
    """Return the constraint of a text like ``memory<=8GiB``.

    Raises:
        UserError: If it is not a bound on one of the objectives.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([^<>=]+?)\s*", text)
    if match is None:
        raise UserError(
            f"--constraint {text}: write an objective, <= or >=, and a value: memory<=8GiB, accuracy>=60%"
        )
    name, direction, value = match.groups()
    try:
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES)
        return Constraint(name, _QUANTITIES[name].read(value), direction)
    except UserError as error:
        raise UserError(f"--constraint {text}: {error}") from None


def parse_constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """Return the constraints of several texts, each once.

    Raises:
        UserError: If one is not a constraint, or no value could keep two of them.
    """
    constraints = tuple(dict.fromkeys(parse_constraint(text) for text in texts))
    for upper in constraints:
        for lower in constraints:
            if (upper.name, upper.direction, lower.direction) != (lower.name, "<=", ">="):
                continue
            if lower.bound > upper.bound:
                raise UserError(f"--constraint {upper} and --constraint {lower}: nothing can keep both")
    return constraints


@dataclass(frozen=True)
class _Quantity:
    """How people write the values of an objective.

    Attributes:
        read: Returns a text's value in the objective's unit.
        units: What a unit is worth in the objective's, by suffix, from the largest to the least.
    """

    read: Callable[[str], float]
    units: Mapping[str, Fraction]

    def write(self, value: float) -> str:
        """Return the shortest text for a value in which a number of 1 or more has at most three decimals."""
        texts = []
        for suffix, unit in self.units.items():
            number = f"{float(Fraction(repr(value)) / unit):.3f}".rstrip("0").rstrip(".")
            if float(number) >= 1 and self.read(number + suffix) == value:
                texts.append(number + suffix)
        own = next(suffix for suffix, unit in self.units.items() if unit == 1)
        return min(texts, key=len, default=f"{value!r}{own}")


def _sizes(unit: int) -> _Quantity:
    """Sizes with their unit: a number alone could be bytes as well as the objective's own unit."""

    def read(text: str) -> float:
        if re.fullmatch(r"[\d.]+", text):
            raise UserError(f"'{text}' lacks its unit; write e.g. 3GiB, 800MiB or 2.5GB")
        return parse_size(text) / unit

    bytes_of = {"GiB": GIB, "GB": 10**9, "MiB": MIB, "MB": 10**6, "KiB": 2**10, "KB": 10**3, "B": 1}
    return _Quantity(read, {suffix: Fraction(size, unit) for suffix, size in bytes_of.items()})


def _numbers(
    kind: str, examples: str, units: Mapping[str, Fraction], most: float = float("inf")
) -> _Quantity:
    """Decimal numbers with a unit; those without are in the objective's own."""
    accepted = {suffix.lower(): unit for suffix, unit in units.items()} | {"": Fraction(1)}

    def read(text: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e[+-]?\d{1,2})?)\s*([a-z%]*)", text.lower())
        unit = accepted.get(match[2]) if match else None
        value = float(Fraction(match[1]) * unit) if match and unit else 0.0
        if not 0 < value <= most:
            raise UserError(f"'{text}' is not {kind}; write e.g. {examples}")
        return value

    return _Quantity(read, units)


_SHARE = _numbers("a share above 0", "0.6 or 60%", {"%": Fraction(1, 100), "": Fraction(1)}, most=1.0)

_QUANTITIES = {
    "memory": _sizes(GIB),
    "checkpoint": _sizes(MIB),
    "params": _numbers(
        "a number of parameters",
        "5M, 300k or 1.5e6",
        {"B": Fraction(10**9), "M": Fraction(10**6), "k": Fraction(1000), "": Fraction(1)},
    ),
    "step_time": _numbers("a duration", "0.2s or 50ms", {"s": Fraction(1), "ms": Fraction(1, 1000)}),
    "accuracy": _SHARE,
    "macro_f1": _SHARE,
    "loss": _numbers("a loss above 0", "0.8", {"": Fraction(1)}),
}
