"""Objects with the interface of an Optuna trial, whose answers come from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.methods.space import Trial, suggest
from trainables.parameters import Choices, Parameter, Range

#: Function that returns the value of a parameter, given its name and the parameter.
Answer = Callable[[str, Parameter], Any]


class AnsweringTrial:
    """A trial whose parameter values come from a function.

    A parameter that is requested again gets the same value again, as with Optuna.

    Args:
        answer: Called once for each parameter.

    Attributes:
        parameters: The requested parameters, by name.
        values: The parameters' values, by name.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.parameters: dict[str, Parameter] = {}
        self.values: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number between low and high, both included."""
        return int(self._asked(name, Range(low, high, step, log, int), int))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number between low and high, both included."""
        return float(self._asked(name, Range(low, high, step, log, float), float))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        return self._asked(name, choices if isinstance(choices, Choices) else Choices(tuple(choices)))

    def _asked(self, name: str, parameter: Parameter, cast: Callable[[Any], Any] | None = None) -> Any:
        if name not in self.values:
            answer = self._answer(name, parameter)
            self.parameters[name] = parameter
            self.values[name] = cast(answer) if cast else answer
        return self.values[name]


@dataclass
class Ends:
    """Answers every parameter with its low or high end, unless a value is chosen for it.

    Attributes:
        end: ``low`` or ``high``.
        chosen: Chosen values, by name. A number is moved into its range.
        undecided: Name of the first requested unordered parameter without a chosen value, or None.
    """

    end: str
    chosen: Mapping[str, Any]
    undecided: str | None = None

    def __call__(self, name: str, parameter: Parameter) -> Any:
        """Return the chosen value, or else the end."""
        if isinstance(parameter, Range):
            wanted = self.chosen.get(name, parameter.low if self.end == "low" else parameter.high)
            return parameter.clamp(wanted)
        if name in self.chosen and parameter.holds(self.chosen[name]):
            return self.chosen[name]
        if not parameter.ordered and self.undecided is None:
            self.undecided = name
        return parameter.values[0 if self.end == "low" else -1]


def renamed(trial: Trial, prefix: str) -> AnsweringTrial:
    """Return a trial that forwards requests to another trial, with a prefix before each parameter's name."""
    return AnsweringTrial(lambda name, parameter: suggest(trial, prefix + name, parameter))
