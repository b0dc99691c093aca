"""What a space is: a function that samples configurations, and the points to try first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from trainables.errors import UserError, unknown
from trainables.towers import EncoderSource

#: The parameter that turns gradient checkpointing on and off.
CHECKPOINTING = "gradient_checkpointing"


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

    @property
    def depth(self) -> int:
        """Layers of the shallowest encoder."""
        return min(self.depths.values())

    @property
    def width(self) -> int:
        """Hidden size of the widest encoder."""
        return max(self.widths.values())


@dataclass(frozen=True)
class Member:
    """One configuration of a space, and the parameter values that lead to it.

    Attributes:
        config: The configuration.
        values: The parameters' values, by name.
        parameters: The ranges that they were taken from, by name.
    """

    config: dict[str, Any]
    values: dict[str, Any]
    parameters: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Space:
    """A set of configurations.

    Attributes:
        name: Name on the command line.
        description: One line for listings.
        sample: Draws a configuration (``method``, ``learning_rate`` and the method's fields) through an
            Optuna trial; parameters may depend on each other. By convention the low end, or first choice,
            of every parameter is its cheapest in memory; choices without such an order are ``Unordered``.
        first_points: Parameter values to evaluate first: the papers' settings.
        method: The method whose default space this is, if it is one's.
        members: Returns the spaces that this one is the union of, if it is one.
        subnets: Draws a configuration as ``sample`` does, in finer steps: what one supernet serves can be
            told apart layer by layer. Its parameters are called as the method's options, with a suffix
            (``n_query_prompts.text.0``) where there are several. None takes ``sample``.
    """

    name: str
    description: str
    sample: Callable[[Trial, SpaceContext], dict[str, Any]]
    first_points: Callable[[SpaceContext], list[dict[str, Any]]]
    method: str | None = None
    members: Callable[[], Sequence[Space]] | None = None
    subnets: Callable[[Trial, SpaceContext], dict[str, Any]] | None = None

    def smallest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return the configurations with every parameter at its low end: one an unordered choice."""
        return [member.config for member in self.ends("low", context)]

    def largest(self, context: SpaceContext) -> list[dict[str, Any]]:
        """Return those with every parameter at its high end, in the same order."""
        return [member.config for member in self.ends("high", context)]

    def parameters(self, context: SpaceContext) -> dict[str, dict[str, Any]]:
        """Return the parameters met on the way to the smallest and largest members, with their ranges."""
        found: dict[str, dict[str, Any]] = {}
        for member in (*self.ends("low", context), *self.ends("high", context)):
            found |= member.parameters
        return found

    def at(self, values: Mapping[str, Any], context: SpaceContext) -> Member:
        """Return the member with some parameters' values given, the nearest in range, all others lowest."""
        return self._probed(Probe("low", values), context)

    def ends(self, end: str, context: SpaceContext) -> list[Member]:
        """Return the members with every parameter at its ``low`` or ``high`` end: one an unordered choice."""
        done: list[Member] = []
        todo: list[dict[str, Any]] = [{}]
        while todo:
            probe = Probe(end, todo.pop(0))
            member = self._probed(probe, context)
            if probe.undecided is None:
                done.append(member)
            else:
                choices = probe.parameters[probe.undecided]["choices"]
                todo = [{**probe.chosen, probe.undecided: choice} for choice in choices] + todo
        return done

    def _probed(self, probe: Probe, context: SpaceContext) -> Member:
        return Member(self.sample(probe, context), probe.values, probe.parameters)


class Unordered(tuple[Any, ...]):
    """Choices of a categorical parameter that have no order of cost; other parameters may depend on them."""


@dataclass
class Probe:
    """A trial that takes one end of every parameter without a value, and notes what it was asked.

    Attributes:
        end: ``low`` or ``high``.
        chosen: Values by name; of numbers the nearest that the range holds is taken.
        parameters: What was asked: ranges by name.
        values: What was answered.
        undecided: The first unordered parameter met that has no value yet.
    """

    end: str
    chosen: Mapping[str, Any]
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    undecided: str | None = None

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return one end of the range; the high end is the last one that the step reaches."""
        self.parameters[name] = {"type": "int", "low": low, "high": high, "step": step, "log": log}
        wanted = self.chosen.get(name, low if self.end == "low" else high)
        self.values[name] = low + (min(max(wanted, low), high) - low) // step * step
        return self.values[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return one end of the range."""
        self.parameters[name] = {"type": "float", "low": low, "high": high, "step": step, "log": log}
        wanted = self.chosen.get(name, low if self.end == "low" else high)
        self.values[name] = min(max(wanted, low), high)
        return self.values[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the first or the last choice, or the one that was chosen."""
        unordered = isinstance(choices, Unordered)
        self.parameters[name] = {"type": "categorical", "choices": choices if unordered else list(choices)}
        if name in self.chosen and self.chosen[name] in choices:
            self.values[name] = self.chosen[name]
        else:
            self.values[name] = choices[0] if self.end == "low" else choices[-1]
            if unordered and self.undecided is None:
                self.undecided = name
        return self.values[name]


@dataclass(frozen=True)
class _Renamed:
    """A trial that puts a prefix in front of every parameter's name."""

    trial: Trial
    prefix: str

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.trial.suggest_int(self.prefix + name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.trial.suggest_float(self.prefix + name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.trial.suggest_categorical(self.prefix + name, choices)


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


def union(name: str, description: str, members: Callable[[], Sequence[Space]]) -> Space:
    """Return the union of methods' spaces: first the method, then its own parameters, one front over all.

    A member's parameter ``x`` is called ``METHOD.x``, so that a sampler never takes one method's for
    another's. The first point of every member comes first, in the order of the members, then the second ones.

    Args:
        name: Name on the command line.
        description: One line for listings.
        members: Returns spaces that have a ``method``; asked anew each time, so that spaces registered later
            belong to it too.
    """

    def by_method() -> dict[str, Space]:
        return {space.method or space.name: space for space in members()}

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        spaces = by_method()
        method = trial.suggest_categorical("method", Unordered(spaces))
        return spaces[method].sample(_Renamed(trial, f"{method}."), context)

    def first_points(context: SpaceContext) -> list[dict[str, Any]]:
        points = {method: space.first_points(context) for method, space in by_method().items()}
        rounds = max(len(of_method) for of_method in points.values())
        return [
            {"method": method, **{f"{method}.{key}": value for key, value in of_method[number].items()}}
            for number in range(rounds)
            for method, of_method in points.items()
            if number < len(of_method)
        ]

    return Space(name, description, sample, first_points, members=members)


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

    def members() -> Sequence[Space]:
        return [with_checkpointing(member) for member in space.members()] if space.members else ()

    return replace(
        space,
        description=f"{space.description}, gradient checkpointing",
        sample=sample,
        first_points=first_points,
        members=members if space.members else None,
    )


def method_space(
    method: str,
    description: str,
    parameters: Callable[[Trial, SpaceContext], dict[str, Any]],
    first_points: Callable[[SpaceContext], list[dict[str, Any]]],
    learning_rates: tuple[float, float] = (1e-4, 1e-2),
) -> Space:
    """Register a method's default space, under the method's name.

    Args:
        method: The method.
        description: One line for listings; the learning rate, which every space has, is added to it.
        parameters: Samples the method's own fields.
        first_points: See ``Space``.
        learning_rates: Lowest and highest learning rate.
    """

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        fields = parameters(trial, context)
        return {"method": method, **fields, "learning_rate": suggest_learning_rate(trial, *learning_rates)}

    return register_space(Space(method, f"{description}, learning rate", sample, first_points, method=method))


def suggest_learning_rate(trial: Trial, low: float = 1e-4, high: float = 1e-2) -> float:
    """Sample a learning rate, log-uniformly, to two significant digits: finer steps only hide repeats."""
    return float(f"{trial.suggest_float('learning_rate', low, high, log=True):.1e}")


def main_modality(context: SpaceContext, preferred: str = "image") -> str:
    """Return the main modality of methods that have one: the papers' where it is there, else the first."""
    return preferred if preferred in context.depths else next(iter(context.depths))


def suggest_layers(trial: Trial, context: SpaceContext, name: str, *, log: bool = False) -> int:
    """Sample a number of top layers, 1 to the shallowest encoder's depth, evenly or on a log scale.

    Raises:
        UserError: If an encoder has no layers.
    """
    if context.depth < 1:
        raise UserError(f"{name}: an encoder without layers has none to work in; choose another encoder")
    return trial.suggest_int(name, 1, context.depth, log=log)
