"""What a space is: a function that samples configurations, and the points to try first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainables.errors import unknown
from trainables.towers import EncoderSource


class Trial(Protocol):
    """The part of ``optuna.Trial`` that spaces use (define-by-run)."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number between low and high, both included."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number between low and high."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True)
class SpaceContext:
    """What a space may depend on: the encoders that are fused.

    Attributes:
        depths: Number of layers of each modality's encoder.
        widths: Hidden size of each modality's encoder.
    """

    depths: Mapping[str, int]
    widths: Mapping[str, int]

    @classmethod
    def of(cls, encoders: Mapping[str, EncoderSource]) -> SpaceContext:
        """Return the context of some encoders."""
        return cls(
            {modality: encoder.depth for modality, encoder in encoders.items()},
            {modality: encoder.width for modality, encoder in encoders.items()},
        )


@dataclass(frozen=True)
class Space:
    """A set of configurations.

    Attributes:
        name: Name on the command line.
        description: One line for listings.
        sample: Draws a configuration (``method``, ``learning_rate`` and the method's fields) through an
            Optuna trial; parameters may depend on each other. By convention the low end, or first choice,
            of every parameter is its cheapest in memory.
        first_points: Parameter values to evaluate first: the papers' settings.
    """

    name: str
    description: str
    sample: Callable[[Trial, SpaceContext], dict[str, Any]]
    first_points: Callable[[SpaceContext], list[dict[str, Any]]]

    def smallest(self, context: SpaceContext) -> dict[str, Any]:
        """Return the configuration with every parameter at its low end."""
        return self.sample(Probe("low"), context)

    def largest(self, context: SpaceContext) -> dict[str, Any]:
        """Return the configuration with every parameter at its high end."""
        return self.sample(Probe("high"), context)

    def parameters(self, context: SpaceContext) -> dict[str, dict[str, Any]]:
        """Return the parameters met on the way to the smallest configuration, with their ranges."""
        probe = Probe("low")
        self.sample(probe, context)
        return probe.parameters


@dataclass
class Probe:
    """A trial that takes one end of every parameter and notes what it was asked."""

    end: str
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return one end of the range; the high end is the last one that the step reaches."""
        self.parameters[name] = {"type": "int", "low": low, "high": high, "step": step, "log": log}
        return low if self.end == "low" else low + (high - low) // step * step

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return one end of the range."""
        self.parameters[name] = {"type": "float", "low": low, "high": high, "step": step, "log": log}
        return low if self.end == "low" else high

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the first or the last choice."""
        self.parameters[name] = {"type": "categorical", "choices": list(choices)}
        return choices[0] if self.end == "low" else choices[-1]


SPACES: dict[str, Space] = {}


def register_space(space: Space) -> Space:
    """Put a space in the registry."""
    SPACES[space.name] = space
    return space


def get_space(name: str) -> Space:
    """Return a registered space.

    Raises:
        UserError: If there is none of that name; the message lists those that exist.
    """
    if name not in SPACES:
        raise unknown("space", name, SPACES)
    return SPACES[name]


def suggest_learning_rate(trial: Trial, low: float = 1e-4, high: float = 1e-2) -> float:
    """Sample a learning rate, log-uniformly, to two significant digits: finer steps only hide repeats."""
    return float(f"{trial.suggest_float('learning_rate', low, high, log=True):.1e}")
