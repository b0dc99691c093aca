"""The setup of a search: everything that its settings name, looked up and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from search.backends.base import Backend, Predictor
from search.backends.recorded import ReplayBackend
from search.backends.training import TrainingBackend
from search.config import SearchConfig, TargetSettings
from search.goals.constraints import Constraint, parse_constraints
from search.goals.objectives import (
    Objective,
    always_reported,
    get_objectives,
    known_values,
    reference_values,
)
from search.goals.quantities import quantity_of
from search.records.history import History
from search.samplers import make_sampler
from search.schedulers import Rule, make_rule
from spaces import Space, SpaceContext, get_space, starting_at, with_checkpointing
from spaces.grid import on_grid
from spaces.single import single
from spaces.subnets import require_elastic, subnet_space
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.methods import METHODS
from trainables.notices import tell
from trainables.step.precision import AUTO
from trainables.step.setting import TrainingSetting


@dataclass(frozen=True)
class Setup:
    """A search's settings with everything looked up and checked; nothing is written yet.

    Attributes:
        config: The settings.
        space: The space.
        history: The history, which is empty.
        rule: Decides which trials continue.
        details: Resolved settings: sizes, fingerprints, reference values. They become parameters in MLflow.
        backend: Runs the trials.
    """

    config: SearchConfig
    space: Space
    history: History
    rule: Rule
    details: Mapping[str, Any]
    backend: Backend

    @property
    def context(self) -> SpaceContext:
        """The depths and widths of the encoders, on which the space depends."""
        return self.backend.context

    @property
    def predictor(self) -> Predictor:
        """The backend's predictor of memory."""
        return self.backend.predictor

    @property
    def setting(self) -> TrainingSetting:
        """The setting of a training step."""
        return self.predictor.setting

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that must be the same when the search is resumed."""
        ranges = self.space.parameters(self.context)
        return {
            **{name: value for name, value in self.details.items() if not name.startswith("reference.")},
            **{f"parameter {name}": json.dumps(bounds.to_dict()) for name, bounds in ranges.items()},
        }


@dataclass(frozen=True)
class Found:
    """What a search's settings name, looked up and checked as far as that needs no devices.

    Attributes:
        config: The settings.
        space: The space.
        backend: Runs the trials.
        read: Whether the backend has read all data.
    """

    config: SearchConfig
    space: Space
    backend: Backend
    read: bool = False

    def in_precision(self, precision: str) -> Found:
        """Return the same with the precision that the devices decide."""
        return Found(
            self.config.replace(precision=precision), self.space, self.backend.in_precision(precision)
        )

    def on_target(self, target: TargetSettings) -> Found:
        """Return the same with the GPU that memory is for; a table of recorded trials has its own."""
        backend = self.backend.on_target(target)
        setting = backend.predictor.setting
        gpu = {"compute_capability": setting.compute_capability, "context_size": setting.context_bytes}
        return Found(self.config.replace(**gpu), self.space, backend)


def look_up(config: SearchConfig) -> Found:
    """Load a search's plugins, then look up and check everything that its settings name.

    Raises:
        UserError: If something does not exist or cannot be used.
    """
    config.load()
    config.check()
    make_sampler(config.search.sampler, config.search.num_samples, config.search.seed)  # or refuse to
    config.tracking.address.with_credentials()
    space = _space(config)
    if config.trial.gradient_checkpointing == "search":
        space = with_checkpointing(space)
    if config.search.sampler == "grid":
        space = on_grid(space)
    if config.search.strategy == "oneshot":
        require_elastic(space)
    backend: Backend = ReplayBackend.of(config) if config.backend.replay else TrainingBackend.of(config)
    if config.search.objectives is None:
        config = config.replace(objectives=tuple(o.name for o in always_reported(backend.task)))
    if config.search.strategy == "oneshot":
        space = subnet_space(space, backend.context, config.oneshot.learning_rate)
    for smallest in space.smallest(backend.context):  # which refuses settings that do not exist
        if smallest["method"] in METHODS:  # those of a table may be of a plugin that is not loaded
            METHODS[smallest["method"]].method.require(backend.context)
    if left_out := space.left_out(backend.context):
        tell(f"space '{space.name}' leaves out {_by_reason(left_out)}")
    return Found(config, space, backend)


def _space(config: SearchConfig) -> Space:
    """Return the space of the settings, in which the recipe's values come first."""
    configuration, recipe = config.configuration, config.trial.paper
    if configuration.method is not None:
        at_first = recipe.settings if recipe and recipe.method == configuration.method else {}
        return single(configuration.method, configuration.values(), at_first)
    space = get_space(config.search.space)
    return starting_at(space, recipe.method, recipe.settings) if recipe else space


def _by_reason(left_out: Mapping[str, str]) -> str:
    """Return methods that are left out, together where the reason is the same."""
    methods: dict[str, list[str]] = {}
    for method, reason in left_out.items():
        methods.setdefault(reason, []).append(method)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in methods.items())


def with_data(found: Found, console: Console) -> Found:
    """Return the same with the dataset prepared, once something in the space is known to fit.

    Args:
        found: The settings with what they name.
        console: Where progress is shown.

    Raises:
        UserError: If nothing in the space satisfies the constraints, or if the data cannot be read.
    """
    if found.read:
        return found
    space, backend = found.space, found.backend
    # It refuses what cannot be built
    backend.predictor.predict_configuration(space.smallest(backend.context)[0])
    for constraint in parse_constraints(found.config.search.all_constraints):
        if constraint.is_budget:
            _require_a_fit(space, backend.context, backend.predictor, constraint)
    return Found(found.config, space, backend.read(console), read=True)


def set_up(found: Found, console: Console) -> Setup:
    """Predict the memory of a search's space, and set up what its trials are compared by.

    Args:
        found: The settings with what they name. The precision is not ``auto`` any more.
        console: Where progress is shown.

    Raises:
        UserError: If nothing in the space satisfies the constraints, or if the data cannot be read.
    """
    found = with_data(found, console)
    config, space, backend = found.config, found.space, found.backend
    assert config.step.precision != AUTO
    constraints = parse_constraints(config.search.all_constraints)
    for constraint in constraints:
        if constraint.is_budget:
            _tell_of_first_points(space, backend, constraint)
    history, rule = _compared(config, space, backend, constraints, console)
    reference = {f"reference.{name}": value for name, value in history.reference.items()}
    return Setup(config, space, history, rule, {**backend.details, **reference}, backend)


def _compared(
    config: SearchConfig,
    space: Space,
    backend: Backend,
    constraints: tuple[Constraint, ...],
    console: Console,
) -> tuple[History, Rule]:
    """Return an empty history and the rule, with the objectives and constraints of the settings."""
    context, predictor, guess = backend.context, backend.predictor, backend.guess
    task = backend.task
    assert config.search.objectives is not None
    objectives = get_objectives(config.search.objectives, task)
    largest = [known_values(report) for report in _largest(space, context, predictor, console)]
    bounds = {c.name: c.bound for c in reversed(constraints) if c.direction == "<="}
    worst = {name: bounds.get(name, 1.1 * max(known[name] for known in largest)) for name in largest[0]}
    reference = reference_values(objectives, worst, guess)
    rule = make_rule(
        config.search.scheduler,
        objectives,
        config.trial.epochs,
        config.search.reduction_factor,
        config.first_rung,
        guess,
    )
    reported = always_reported(task)
    if config.configuration.method is not None:
        reported = (*reported, *map(Objective.of, task.metrics))
    return History(objectives, reference, constraints, reported), rule


def _require_a_fit(space: Space, context: SpaceContext, predictor: Predictor, constraint: Constraint) -> None:
    """Raise ``UserError`` if even the space's smallest configuration breaks a constraint."""

    def value(config: dict[str, Any]) -> float:
        return known_values(predictor.predict_configuration(config))[constraint.name]

    least = cheapest(space, context, value, constraint.bound)
    if least > constraint.bound:
        raise UserError(
            f"{constraint}: nothing in space '{space.name}' fits; its smallest configuration takes "
            f"{quantity_of(constraint.objective).brief(least)} at batch size {predictor.setting.batch_size}"
        )


def _tell_of_first_points(space: Space, backend: Backend, constraint: Constraint) -> None:
    """Say if first points of a space break a constraint, because they are what its user expects to see."""
    points = [space.at(point, backend.context).config for point in space.first_points(backend.context)]
    values = [known_values(backend.predictor.predict_configuration(c))[constraint.name] for c in points]
    if broken := [value for value in values if value > constraint.bound]:
        least = quantity_of(constraint.objective).brief(min(broken))
        takes = f"takes {least} and is" if len(broken) == 1 else f"take {least} or more and are"
        tell(f"{constraint}: {len(broken)} of {len(points)} first points of the space {takes} not trained")


def cheapest(
    space: Space, context: SpaceContext, cost: Callable[[dict[str, Any]], float], enough: float
) -> float:
    """Return the least cost of a space's smallest members; stop at the first cost <= ``enough``."""
    found: list[float] = []
    for config in space.smallest(context):
        found.append(cost(config))
        if found[-1] <= enough:
            break
    return min(found)


def _largest(
    space: Space, context: SpaceContext, predictor: Predictor, console: Console
) -> list[MemoryReport]:
    """Predict the memory of the space's largest configurations; each method of a space has its own."""
    ends = space.largest(context)
    with console.status(f"predicting the memory of space '{space.name}'") as status:
        reports = []
        for number, config in enumerate(ends):
            status.update(f"predicting the memory of space '{space.name}': {number} of {len(ends)}")
            reports.append(predictor.predict_configuration(config))
    return reports
