"""Trials that are not Optuna's: their answers come from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.methods.space import Trial, suggest
from trainables.parameters import Choices, Parameter, Range

#: Answers for a parameter by its name and what it may be.
Answer = Callable[[str, Parameter], Any]


class AnsweringTrial:
    """A trial whose answers a function gives; one that is asked for twice is answered alike, as by Optuna.

    Args:
        answer: Is asked once for each parameter.

    Attributes:
        parameters: What was asked for: parameters by name.
        values: What was answered.
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
        """Return a number between low and high."""
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
    """Answers with one end of every parameter, unless a value is chosen for it.

    Attributes:
        end: ``low`` or ``high``.
        chosen: Values by name; of numbers the nearest that the range holds is taken.
        undecided: The first unordered parameter met that has no value yet.
    """

    end: str
    chosen: Mapping[str, Any]
    undecided: str | None = None

    def __call__(self, name: str, parameter: Parameter) -> Any:
        """Return the end, or the value that is chosen."""
        if isinstance(parameter, Range):
            wanted = self.chosen.get(name, parameter.low if self.end == "low" else parameter.high)
            return parameter.clamp(wanted)
        if name in self.chosen and parameter.holds(self.chosen[name]):
            return self.chosen[name]
        if not parameter.ordered and self.undecided is None:
            self.undecided = name
        return parameter.values[0 if self.end == "low" else -1]


def renamed(trial: Trial, prefix: str) -> AnsweringTrial:
    """Return a trial that puts a prefix in front of every parameter's name and passes it on."""
    return AnsweringTrial(lambda name, parameter: suggest(trial, prefix + name, parameter))
