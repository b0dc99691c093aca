"""What a task is: what is learnt, and how well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """One figure of how well a task is learnt.

    Attributes:
        name: The name that trials report it by, e.g. ``accuracy``.
        direction: Whether less or more is better.
        worst: The value from which on a result is worth nothing; None if it depends on the data, in which
            case the task's guess says it.
        ideal: The best possible value.
        unit: ``%`` for a share of 1, which people may write as a percentage; empty for a plain number.
        description: One line for listings.
    """

    name: str
    direction: Direction
    worst: float | None
    ideal: float
    unit: str = ""
    description: str = ""
