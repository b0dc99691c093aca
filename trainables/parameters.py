"""The two kinds of search parameters: a range of numbers and a list of choices.

A space asks for parameters and a sampler gives their values. Grids and recorded tables use the same objects.
All arithmetic of ranges is in this module: the position of a number in its range, and the number at a given
position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Range:
    """The numbers between two ends, both included.

    >>> Range(1, 32, log=True).grid(5)
    (1, 2, 6, 13, 32)
    >>> Range(0.0, 1.0).at(0.25)
    0.25

    Attributes:
        low: Lowest value.
        high: Upper end. It is a value of the range if a whole number of steps leads to it.
        step: Distance between neighbouring values. None means 1 for whole numbers and, for other numbers,
            that the range is continuous.
        log: Whether values are spread evenly on a log scale.
        kind: ``int`` or ``float``. None takes ``int`` if both ends are of that type, else ``float``.
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
        """Whether the values are whole numbers."""
        return self.kind is int

    @property
    def endless(self) -> bool:
        """Whether the range is continuous, so that its values cannot be counted."""
        return self.step is None and self.low != self.high

    def holds(self, value: Any) -> bool:
        """Return whether a number lies between the ends."""
        return bool(self.low <= value <= self.high)

    def clamp(self, value: float) -> float:
        """Return the nearest number between the ends; a whole number is also rounded down to a step."""
        inside = min(max(value, self.low), self.high)
        if self.whole and self.step is not None:
            return self.low + (inside - self.low) // self.step * self.step
        return inside

    def place(self, value: float) -> float:
        """Return the position of a number in the range, from 0 to 1, on the scale of the range."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.0

    def at(self, share: float) -> float:
        """Return the value at a position in [0, 1); every step covers an equal part of the positions."""
        low, high, step = self.low, self.high, self.step
        if step is None:
            return min(low * (high / low) ** share if self.log else low + (high - low) * share, high)
        if self.log:  # only whole numbers have a step and a log scale
            return min(max(round((low - 0.5) * ((high + 0.5) / (low - 0.5)) ** share), low), high)
        return low + int(share * (self.steps + 1)) * step

    @property
    def steps(self) -> int:
        """The number of whole steps that fit between the low and the high end.

        Raises:
            ValueError: If the range has no steps.
        """
        if self.step is None:
            raise ValueError(f"no steps between {self.low:g} and {self.high:g}")
        # Rounding may put the last step of a float range just above the high end.
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def grid(self, points: int | None = None) -> tuple[float, ...]:
        """Return the values of the range on a grid, in rising order, with both ends among them.

        Args:
            points: Maximum number of values, 2 or more, spread evenly on the scale of the range. None returns
                all values.

        Raises:
            ValueError: If ``points`` is None and the range has no steps.
        """
        return _grid(self, points)

    def nearest(self, value: float, points: int) -> int:
        """Return the index of the value of ``grid(points)`` that is nearest to a number."""
        values = self.grid(points)
        if self.log:
            return min(range(len(values)), key=lambda index: abs(math.log(values[index] / value)))
        return min(range(len(values)), key=lambda index: abs(values[index] - value))

    def to_dict(self) -> dict[str, Any]:
        """Return the range as a JSON object."""
        kind = "int" if self.whole else "float"
        return {"type": kind, "low": self.low, "high": self.high, "step": self.step, "log": self.log}


@dataclass(frozen=True)
class Choices(Sequence[Any]):
    """Values of which one is chosen. An Optuna trial accepts the object as a list of choices.

    >>> Choices(("frozen", "prompt")).at(0.7)
    'prompt'

    Attributes:
        values: The values.
        ordered: Whether the values are in order of memory, the cheapest first. ``Space.ends`` takes the first
            or last value of ordered choices. It takes every value of unordered choices, because other
            parameters may depend on the value.
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
        """Return whether a value is one of the choices."""
        return value in self.values

    def at(self, share: float) -> Any:
        """Return the choice at a position in [0, 1); each choice covers an equal part of the positions."""
        return self.values[int(share * len(self.values))]

    def grid(self, points: int | None = None) -> tuple[Any, ...]:
        """Return all choices; ``points`` is ignored."""
        return self.values

    def nearest(self, value: Any, points: int) -> int:
        """Return the index of a choice; ``points`` is ignored."""
        return self.values.index(value)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as a JSON object."""
        return {"type": "categorical", "choices": list(self.values)}


#: A search parameter of either kind.
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
    # Near the low end of a log scale, two points may fall on the same step.
    return tuple(dict.fromkeys([low, *(low + round((v - low) / step) * step for v in between), high]))
