"""How much of a space fits into a limit, and how large one setting can be.

Everything rests on predictions of single configurations. Memory does not always grow with a setting, so
nothing is concluded from neighbouring configurations: each configuration that is reported to fit was itself
predicted to fit.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from search.units import format_size
from spaces import Member, Space, SpaceContext
from spaces.trials import Answer, AnsweringTrial
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import MethodConfig
from trainables.parameters import Choices, Parameter

#: Predicts the memory of a configuration, in bytes.
Cost = Callable[[Mapping[str, Any]], int]

#: Most steps by which a setting without an upper end is raised.
_MOST_STEPS = 2**20
#: Number of coordinates of a draw, and thus the most parameters of a space.
_DIMENSIONS = 1024
#: Number of values that are tried for a real-valued parameter, including its ends.
_FLOAT_VALUES = 17


@dataclass(frozen=True)
class Sized:
    """A configuration and its memory in bytes."""

    config: dict[str, Any]
    memory: int


@dataclass(frozen=True)
class Extent:
    """The memory that the members of a space take.

    Attributes:
        smallest: The predicted member with the least memory.
        first: The space's first point, which is a paper's setting.
        largest: The predicted member with the most memory.
        drawn: Number of members that were drawn evenly.
        fitting: Number of drawn members that fit.
    """

    smallest: Sized
    first: Sized
    largest: Sized
    drawn: int
    fitting: int

    @property
    def share(self) -> float:
        """Share (0 to 1) of the space that fits."""
        return self.fitting / self.drawn

    @property
    def standard_error(self) -> float:
        """Standard error of the share.

        It is that of independent draws; even draws are slightly better. Half a draw is added on either side
        (Jeffreys), so that it is not 0 if all draws agree.
        """
        share = (self.fitting + 0.5) / (self.drawn + 1)
        return math.sqrt(share * (1 - share) / self.drawn)


@dataclass(frozen=True)
class Slice:
    """The effect of one parameter on memory while all others are fixed.

    Attributes:
        low: Bytes at the parameter's low end; for unordered choices, the least bytes.
        high: Bytes at the parameter's high end; for unordered choices, the most bytes.
        fits: The largest value that fits; for unordered choices, all values that fit.
    """

    low: int
    high: int
    fits: tuple[Any, ...]

    @property
    def moved(self) -> int:
        """Difference between both ends, in bytes."""
        return abs(self.high - self.low)


@dataclass(frozen=True)
class Reach:
    """The values that one parameter can take, and their effect on memory.

    Attributes:
        parameter: Name of the parameter.
        values: All values, cheapest first; for a real-valued parameter some values, including the ends.
        ordered: Whether the values are ordered by cost, as numbers always are.
        smallest: The slice with all other parameters at their smallest; None if the space does not ask for
            this parameter there.
        first: The slice with all other parameters at the first point; None likewise.
    """

    parameter: str
    values: Sequence[Any]
    ordered: bool
    smallest: Slice | None
    first: Slice | None

    @property
    def idle(self) -> bool:
        """Whether the parameter was tried and did not change memory, as with a learning rate."""
        tried = [part for part in (self.smallest, self.first) if part]
        return bool(tried) and not any(part.moved for part in tried)


@dataclass(frozen=True)
class Largest:
    """The largest value of a setting that fits.

    Attributes:
        value: The value.
        memory: Memory at this value, in bytes.
        next_value: The next larger value, which does not fit; None if the range ended first.
        next_memory: Memory at the next value, in bytes; None if that value is invalid.
        reason: Why there is no larger valid value.
    """

    value: int
    memory: int
    next_value: int | None = None
    next_memory: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Grid:
    """Memory by a parameter and the batch size, with all other parameters at the first point.

    Attributes:
        parameter: Name of the parameter.
        values: Values of the parameter, one for each row.
        batch_sizes: Batch sizes, one for each column.
        memory: Bytes, by row and column.
    """

    parameter: str
    values: Sequence[Any]
    batch_sizes: Sequence[int]
    memory: Sequence[Sequence[int]]


def measure_extent(
    space: Space, context: SpaceContext, cost: Cost, limit: int | None = None, draws: int = 256
) -> Extent:
    """Predict the ends of a space and, with a limit, the share of it that fits.

    Args:
        space: The space; for a union, measure each part instead.
        context: Depths and widths of the encoders.
        cost: Predicts the bytes of a configuration.
        limit: Bytes that a member may take; None draws no members.
        draws: Number of members to draw, see ``draw``.
    """
    first = _first(space, context).config
    configs = [first, *space.smallest(context), *space.largest(context)]
    drawn = [] if limit is None else list(draw(space, context, draws))
    sized = [Sized(config, cost(config)) for config in (*configs, *drawn)]
    fitting = 0 if limit is None else sum(one.memory <= limit for one in sized[len(configs) :])
    smallest = min(sized, key=lambda one: one.memory)
    largest = max(sized, key=lambda one: one.memory)
    return Extent(smallest, sized[0], largest, len(drawn), fitting)


def measure_reaches(space: Space, context: SpaceContext, cost: Cost, limit: int | None = None) -> list[Reach]:
    """Predict, for each parameter of a space, its effect on memory and its largest value that fits.

    Args:
        space: The space; not a union.
        context: Depths and widths of the encoders.
        cost: Predicts the bytes of a configuration.
        limit: Bytes that a member may take; with None, every value fits.
    """
    smallest = min(space.ends("low", context), key=lambda member: cost(member.config))
    first = _first(space, context)
    reaches = []
    for name, parameter in space.parameters(context).items():
        slices = [_slice(space, context, cost, anchor, name, limit) for anchor in (smallest, first)]
        reaches.append(Reach(name, _values(parameter), _ordered(parameter), *slices))
    return reaches


def measure_grid(
    space: Space,
    context: SpaceContext,
    costs: Mapping[int, Cost],
    parameter: str,
    most_values: int = 12,
) -> Grid:
    """Predict memory by a parameter and the batch size, with all others at the space's first point.

    Args:
        space: The space.
        context: Depths and widths of the encoders.
        costs: Predicts the bytes of a configuration, by batch size.
        parameter: The parameter; for a union it is ``method``, with each part at its first point.
        most_values: Most values of the parameter in the grid.
    """
    if space.parts is not None:
        configs = {part.method or part.name: _first(part, context).config for part in space.parts()}
    else:
        anchor = _first(space, context)
        values = _values(anchor.parameters[parameter])
        shown = {round(i * (len(values) - 1) / (most_values - 1)) for i in range(most_values)}
        chosen = values if len(values) <= most_values else [values[i] for i in sorted(shown)]
        configs = {value: space.at({**anchor.values, parameter: value}, context).config for value in chosen}
    memory = [[cost(config) for cost in costs.values()] for config in configs.values()]
    return Grid(parameter, list(configs), list(costs), memory)


def find_largest(
    name: str, cost: Callable[[int], int], limit: int, low: int, high: int | None = None, step: int = 1
) -> Largest:
    """Find the largest value that fits, by doubling and then bisection.

    Args:
        name: Name of the value, for messages.
        cost: Predicts the bytes at a value; it raises ``UserError`` for an invalid value.
        limit: Bytes that are available.
        low: The smallest value.
        high: The largest value; None if it is unknown.
        step: Distance between two values.

    Raises:
        UserError: If the smallest value does not fit or is invalid.
    """
    memory: dict[int, int] = {}
    reasons: dict[int, str] = {}

    def at(index: int) -> int:
        return low + index * step

    def fits(index: int) -> bool:
        try:
            memory[index] = cost(at(index))
        except UserError as error:
            reasons[index] = str(error)
            return False
        return memory[index] <= limit

    if not fits(0):
        raise UserError(
            reasons.get(0)
            or f"--limit {format_size(limit)}: nothing fits; {name}={low} takes {format_size(memory[0])}"
        )
    last = _MOST_STEPS if high is None else (high - low) // step
    good, bad = 0, None
    while good < last and bad is None:
        candidate = min(max(2 * good, 1), last)
        good, bad = (candidate, None) if fits(candidate) else (good, candidate)
    if bad is None:
        end = "larger ones were not tried" if high is None else f"{name} ends there"
        return Largest(at(good), memory[good], reason=end)

    def guess(good: int, bad: int) -> int:
        """Interpolate linearly between the two: memory is nearly linear in most settings."""
        if bad not in memory or memory[bad] <= memory[good]:
            return (good + bad) // 2
        return good + (limit - memory[good]) * (bad - good) // (memory[bad] - memory[good])

    good, bad = _bisect(good, bad, fits, guess)
    return Largest(at(good), memory[good], at(bad), memory.get(bad), reasons.get(bad))


def find_largest_setting(
    names: Sequence[str], predictor: MemoryPredictor, method: str, config: MethodConfig, limit: int
) -> Largest:
    """Find the largest value that some settings can have together.

    Args:
        names: Settings of the training step or of the method that are whole numbers.
        predictor: Predictor with the encoders and all other settings.
        method: Name of the method.
        config: Configuration of the method; its values of the named settings are ignored.
        limit: Bytes that are available.

    Raises:
        UserError: If a name is no such setting, or if no value fits.
    """
    own = _whole_fields(config)
    accumulation = predictor.setting.gradient_accumulation
    ranges: dict[str, tuple[int, int | None]] = {"batch_size": (accumulation, None)}
    if "text" in predictor.kinds:
        ranges["text_length"] = (2, None)  # a special token at either end
    ranges |= own
    for name in names:
        if name not in ranges:
            raise UserError(f"--max {name}: no whole-number setting of {method}; known: {', '.join(ranges)}")
    step = accumulation if "batch_size" in names else 1
    low = math.ceil(max(ranges[name][0] for name in names) / step) * step
    highs = [high for _, high in (ranges[name] for name in names) if high is not None]

    def cost(value: int) -> int:
        of_step = {name: value for name in names if name not in own}
        of_method = {name: value for name in names if name in own}
        return predictor.changed(**of_step).predict(method, {**config.to_dict(), **of_method}).memory

    return find_largest(" = ".join(names), cost, limit, low, min(highs, default=None), step)


def _whole_fields(config: MethodConfig) -> dict[str, tuple[int, int | None]]:
    """Return the method's settings that are whole numbers, with their least and greatest values."""
    hints = get_type_hints(type(config))
    found = {}
    for item in dataclasses.fields(config):
        if int in (hints[item.name], *get_args(hints[item.name])) and item.metadata["choices"] is None:
            low, high = item.metadata["low"], item.metadata["high"]
            found[item.name] = (1 if low is None else int(low), None if high is None else int(high))
    return found


def draw(space: Space, context: SpaceContext, number: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Draw configurations evenly: a scrambled Sobol sequence, each parameter on its own scale.

    Args:
        space: The space.
        context: Depths and widths of the encoders.
        number: Number of configurations.
        seed: Seed of the scrambling.
    """
    from scipy.stats import qmc  # takes a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # any number is spread evenly, a power of 2 best
        points = qmc.Sobol(_DIMENSIONS, scramble=True, seed=seed).random(number)
    for point in points.tolist():
        yield space.sample(AnsweringTrial(_along(point)), context)


def _along(point: Sequence[float]) -> Answer:
    """Return a function that answers with the coordinates of a point in the unit cube, in order."""
    coordinates = iter(point)
    return lambda name, parameter: parameter.at(next(coordinates))


def _slice(
    space: Space, context: SpaceContext, cost: Cost, anchor: Member, name: str, limit: int | None
) -> Slice | None:
    """Vary one parameter of a member over the range that the parameter has there."""
    if name not in anchor.parameters:
        return None
    parameter = anchor.parameters[name]
    values = _values(parameter)

    def memory(index: int) -> int:
        return cost(space.at({**anchor.values, name: values[index]}, context).config)

    def fits(index: int) -> bool:
        return limit is None or memory(index) <= limit

    if not _ordered(parameter):
        every = [memory(index) for index in range(len(values))]
        return Slice(min(every), max(every), tuple(v for i, v in enumerate(values) if fits(i)))
    last = len(values) - 1
    found: tuple[Any, ...] = ()
    if fits(last):
        found = (values[last],)
    elif fits(0):
        found = (values[_bisect(0, last, fits)[0]],)
    return Slice(memory(0), memory(last), found)


def _values(parameter: Parameter) -> Sequence[Any]:
    """Return the values of a parameter, cheapest first."""
    if isinstance(parameter, Choices):
        return parameter.values
    if parameter.whole:  # there may be millions
        return range(int(parameter.low), int(parameter.high) + 1, int(parameter.step or 1))
    return parameter.grid(_FLOAT_VALUES)


def _ordered(parameter: Parameter) -> bool:
    return not isinstance(parameter, Choices) or parameter.ordered


def _bisect(
    good: int, bad: int, fits: Callable[[int], bool], guess: Callable[[int, int], int] | None = None
) -> tuple[int, int]:
    """Return two neighbouring indices, of which the first was found to fit and the second was not.

    Args:
        good: An index that fits.
        bad: A larger index that does not fit.
        fits: Tries an index.
        guess: Guesses the index of the limit between both. Every second try is in the middle, so that wrong
            guesses at most double the number of tries.
    """
    tries = 0
    while bad - good > 1:
        tries += 1
        middle = (good + bad) // 2
        if guess is not None and tries % 2:
            middle = min(max(guess(good, bad), good + 1), bad - 1)
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good, bad


def _first(space: Space, context: SpaceContext) -> Member:
    return space.at(space.first_points(context)[0], context)
