"""What a parameter may be: a range of numbers, or one of some choices.

A space asks for parameters, samplers answer, tables and grids are laid out along them. The arithmetic of
ranges is here and nowhere else: where a number lies in its range, and what lies at a share of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included.

    >>> Range(1, 32, log=True).grid(5)
    (1, 2, 6, 13, 32)
    >>> Range(0.0, 1.0).at(0.25)
    0.25

    Attributes:
        low: Lowest value.
        high: Highest value, if the steps reach it.
        step: Distance of neighbouring values. None is 1 for whole numbers; of others it means that all values
            between the ends belong to the range.
        log: Whether the range is even on a log scale.
        kind: ``int`` or ``float``. None is ``int`` where both ends are of that type.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    kind: type[int] | type[float] | None = None

    def __post_init__(self) -> None:
        kind = self.kind or (int if isinstance(self.low, int) and isinstance(self.high, int) else float)
        step = (1 if kind is int else None) if self.step is None else kind(self.step)
        kept = {"low": kind(self.low), "high": kind(self.high), "step": step, "kind": kind}
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind is int

    @property
    def endless(self) -> bool:
        """Whether its values cannot be counted."""
        return self.step is None and self.low != self.high

    def holds(self, value: Any) -> bool:
        """Whether a number lies between the ends."""
        return bool(self.low <= value <= self.high)

    def clamp(self, value: float) -> float:
        """Return the nearest number between the ends; of whole numbers, the one that a step reaches below."""
        inside = min(max(value, self.low), self.high)
        if self.whole and self.step is not None:
            return self.low + (inside - self.low) // self.step * self.step
        return inside

    def place(self, value: float) -> float:
        """Return where in the range a number lies, 0 to 1, on the scale of the range."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.0

    def at(self, share: float) -> float:
        """Return the value at some share of the range, in [0, 1); every step has an equal part of it."""
        low, high, step = self.low, self.high, self.step
        if step is None:
            return min(low * (high / low) ** share if self.log else low + (high - low) * share, high)
        if self.log:  # only whole numbers have a step and a log scale
            return min(max(round((low - 0.5) * ((high + 0.5) / (low - 0.5)) ** share), low), high)
        return low + int(share * (self.steps + 1)) * step

    @property
    def steps(self) -> int:
        """How many steps there are from the low end on.

        Raises:
            ValueError: If the range has no steps.
        """
        if self.step is None:
            raise ValueError(f"no steps between {self.low:g} and {self.high:g}")
        # Of floats, the last step may end just above the high end.
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def grid(self, points: int | None = None) -> tuple[float, ...]:
        """Return the values that a grid takes of the range, in rising order, both ends among them.

        Args:
            points: The most values, 2 or more, spread evenly on the scale of the range; None for all.

        Raises:
            ValueError: If all are wanted of a range without steps.
        """
        return _grid(self, points)

    def nearest(self, value: float, points: int) -> int:
        """Return the index of the grid's value that is nearest to a number."""
        values = self.grid(points)
        if self.log:
            return min(range(len(values)), key=lambda index: abs(math.log(values[index] / value)))
        return min(range(len(values)), key=lambda index: abs(values[index] - value))

    def to_dict(self) -> dict[str, Any]:
        """Return the range as JSON has it."""
        kind = "int" if self.whole else "float"
        return {"type": kind, "low": self.low, "high": self.high, "step": self.step, "log": self.log}


@dataclass(frozen=True)
class Choices(Sequence[Any]):
    """Values of which one is chosen. An Optuna trial takes it wherever it takes a list of choices.

    >>> Choices(("frozen", "prompt")).at(0.7)
    'prompt'

    Attributes:
        values: The values.
        ordered: Whether the first is the cheapest in memory and the last the dearest. Of unordered ones, a
            space looks at each when it is asked for its ends, as other parameters may depend on it.
    """

    values: tuple[Any, ...]
    ordered: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the choices."""
        return value in self.values

    def at(self, share: float) -> Any:
        """Return the choice at some share of them, in [0, 1); each has an equal part."""
        return self.values[int(share * len(self.values))]

    def grid(self, points: int | None = None) -> tuple[Any, ...]:
        """Return the choices that a grid takes, which are all."""
        return self.values

    def nearest(self, value: Any, points: int) -> int:
        """Return the index of a choice."""
        return self.values.index(value)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as JSON has them."""
        return {"type": "categorical", "choices": list(self.values)}


#: What a space asks for.
Parameter = Range | Choices


@lru_cache
def _grid(asked: Range, points: int | None) -> tuple[float, ...]:
    low, high, step = asked.low, asked.high, asked.step
    if low == high:
        return (low,)
    if step is not None:
        if points is None or asked.steps < points:
            return tuple(low + index * step for index in range(asked.steps + 1))
        high = low + asked.steps * step
    elif points is None:
        raise ValueError(f"no steps between {low:g} and {high:g}: the values cannot be counted")
    shares = [index / (points - 1) for index in range(1, points - 1)]
    between = [low * (high / low) ** share if asked.log else low + (high - low) * share for share in shares]
    if step is None:
        return (low, *between, high)
    # Near the low end of a log scale, two points may share a step.
    return tuple(dict.fromkeys([low, *(low + round((v - low) / step) * step for v in between), high]))
