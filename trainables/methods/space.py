"""Declaration of a method's default space: the options that are searched and the points to evaluate first.

``spaces`` registers each declaration as a space under the method's name. Every space also has a learning
rate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainables.errors import UserError
from trainables.parameters import Choices, Parameter, Range
from trainables.towers import EncoderSource, Tower


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
    """Properties of the fused encoders that a space may depend on.

    Attributes:
        depths: Number of layers of each modality's encoder.
        widths: Hidden size of each modality's encoder.
        kinds: Kind of each modality: text, image, audio or features. A modality that is missing here is of
            the kind that its name says.
        causal: The modalities whose encoders are causal.
    """

    depths: Mapping[str, int]
    widths: Mapping[str, int]
    kinds: Mapping[str, str] = field(default_factory=dict)
    causal: Collection[str] = ()

    @classmethod
    def of(cls, encoders: Mapping[str, EncoderSource]) -> SpaceContext:
        """Return the context for one encoder per modality."""
        return cls(
            {modality: encoder.depth for modality, encoder in encoders.items()},
            {modality: encoder.width for modality, encoder in encoders.items()},
            {modality: encoder.kind for modality, encoder in encoders.items()},
            [modality for modality, encoder in encoders.items() if encoder.family.tower.PROMPTS_FIRST],
        )

    @classmethod
    def of_towers(cls, towers: Mapping[str, Tower]) -> SpaceContext:
        """Return the context for one tower per modality."""
        return cls(
            {modality: tower.depth for modality, tower in towers.items()},
            {modality: tower.width for modality, tower in towers.items()},
            {modality: tower.KIND for modality, tower in towers.items()},
            [modality for modality, tower in towers.items() if tower.PROMPTS_FIRST],
        )

    def first(self, kind: str) -> str | None:
        """Return the first modality of a kind, or None if there is none."""
        return next((m for m in self.depths if self.kinds.get(m, m) == kind), None)

    @property
    def without_layers(self) -> str | None:
        """The first modality whose encoder has no layers, or None."""
        return next((m for m, depth in self.depths.items() if not depth), None)

    @property
    def depth(self) -> int:
        """Number of layers of the shallowest encoder."""
        return min(self.depths.values())

    @property
    def most_layers(self) -> int:
        """Number of layers of the deepest encoder."""
        return max(self.depths.values())

    @property
    def width(self) -> int:
        """Hidden size of the widest encoder."""
        return max(self.widths.values())


#: A function that draws options through a trial. A parameter may depend on the values of others.
Draw = Callable[[Trial, SpaceContext], dict[str, Any]]
#: A function that returns the parameter values to evaluate first.
FirstPoints = Callable[[SpaceContext], list[dict[str, Any]]]
#: A parameter, or a function of its name and the encoders that returns one, such as ``top_layers``.
Declared = Parameter | Callable[[str, SpaceContext], Parameter]


#: Prompt lengths that the PMF paper studies (Fig. 5).
PROMPT_LENGTHS = Range(1, 32, log=True)
#: Lowest and highest learning rate for training whole encoders.
FINE_TUNING = (1e-5, 1e-3)


@dataclass(frozen=True)
class DefaultSpace:
    """The default space of a method.

    By convention, the low end or first choice of every parameter needs the least memory.

    Attributes:
        description: One line for listings, without the learning rate.
        parameters: The searched options by name, in the order in which a trial is asked for them. If one
            depends on another's value, a function that draws them through a trial.
        first_points: Parameter values to evaluate first (the papers' settings), or a function that returns
            them.
        learning_rates: Lowest and highest learning rate.
    """

    description: str
    parameters: Mapping[str, Declared] | Draw
    first_points: Sequence[Mapping[str, Any]] | FirstPoints
    learning_rates: tuple[float, float] = (1e-4, 1e-2)

    def draw(self, trial: Trial, context: SpaceContext) -> dict[str, Any]:
        """Draw the method's options and then the learning rate."""
        given = self.parameters
        options = given(trial, context) if callable(given) else suggest_all(trial, context, given)
        return {**options, "learning_rate": suggest_learning_rate(trial, *self.learning_rates)}

    def points(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return the parameter values to evaluate first."""
        given = self.first_points
        return given(context) if callable(given) else [dict(point) for point in given]


def suggest(trial: Trial, name: str, parameter: Parameter) -> Any:
    """Ask a trial for a parameter's value.

    Args:
        trial: The trial.
        name: The parameter's name.
        parameter: The parameter's range or choices.
    """
    if isinstance(parameter, Choices):
        return trial.suggest_categorical(name, parameter)
    if parameter.whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return trial.suggest_int(name, low, high, step=step, log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def suggest_all(trial: Trial, context: SpaceContext, parameters: Mapping[str, Declared]) -> dict[str, Any]:
    """Ask a trial for the values of several parameters in the given order."""
    return {
        name: suggest(trial, name, given if isinstance(given, Range | Choices) else given(name, context))
        for name, given in parameters.items()
    }


def suggest_learning_rate(trial: Trial, low: float = 1e-4, high: float = 1e-2) -> float:
    """Sample a learning rate log-uniformly, rounded to two digits so that repeats are recognised."""
    return float(f"{trial.suggest_float('learning_rate', low, high, log=True):.1e}")


def suggest_layers(trial: Trial, context: SpaceContext, name: str, *, log: bool = False) -> int:
    """Sample a number of top layers from 1 to the shallowest encoder's depth, uniformly or on a log scale.

    Raises:
        UserError: If an encoder has no layers.
    """
    most = int(top_layers(name, context).high)
    return trial.suggest_int(name, 1, most, log=log)


def top_layers(name: str, context: SpaceContext) -> Range:
    """Return the range of possible numbers of top layers: 1 to the shallowest encoder's depth.

    Raises:
        UserError: If an encoder has no layers.
    """
    if context.depth < 1:
        raise UserError(f"{name}: an encoder without layers has none to work in; choose another encoder")
    return Range(1, context.depth)


def tuned_layers(name: str, context: SpaceContext) -> Range:
    """Return the range of numbers of top layers if shallow encoders take part with all of theirs.

    The high end is all layers of each encoder.
    """
    return Range(1, max(1, context.most_layers))


def modalities(name: str, context: SpaceContext) -> Choices:
    """Return the modalities whose encoders have layers, as choices without an order."""
    return Choices(tuple(m for m, depth in context.depths.items() if depth), ordered=False)


def main_modality(context: SpaceContext, preferred: str = "image") -> str:
    """Return the first modality of the preferred kind (the papers' choice), or else the first of all."""
    return context.first(preferred) or next(iter(context.depths))
