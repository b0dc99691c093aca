"""What a search is made of: everything that its settings name, looked up and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from search.config import SearchConfig
from search.goals.constraints import Constraint, parse_constraints
from search.goals.objectives import KNOWN, MIB, get_objectives, known_values, reference_values
from search.records.history import History
from search.replay import ReplayPredictor, ReplayTable
from search.schedulers import Rule, make_rule
from search.units import GIB, format_size
from spaces import Space, SpaceContext, get_space, with_checkpointing
from spaces.grid import on_grid
from spaces.subnets import require_elastic, subnet_space
from trainables.configuration import split_config
from trainables.data import DATASETS, Dataset, open_dataset, prepare, typical_text_length
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.memory.memo import PredictionMemo
from trainables.plugin import Plugin
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import EncoderSource, resolve_encoder
from trainables.trial.workbench import TrialSpec


@dataclass(frozen=True)
class Setup:
    """A search's settings with everything looked up and checked; nothing is written yet.

    Attributes:
        config: The settings.
        space: The space.
        context: What the space depends on: the encoders' depths and widths.
        setting: How a step is run.
        predictor: Predicts memory.
        history: Empty.
        rule: Decides which trials go on.
        details: What the settings stood for: sizes, fingerprints, reference values; parameters in MLflow.
        dataset: The data; None where a table stands in for training.
        encoders: The encoder of each modality; none where a table stands in.
        table: Recorded trials that stand in for training, or None.
    """

    config: SearchConfig
    space: Space
    context: SpaceContext
    setting: TrainingSetting
    predictor: MemoryPredictor
    history: History
    rule: Rule
    details: dict[str, Any]
    dataset: Dataset | None
    encoders: dict[str, EncoderSource]
    table: ReplayTable | None

    @property
    def facts(self) -> dict[str, Any]:
        """What must not change while a search is interrupted."""
        ranges = self.space.parameters(self.context)
        return {
            **{name: value for name, value in self.details.items() if not name.startswith("reference.")},
            **{f"parameter {name}": json.dumps(bounds) for name, bounds in ranges.items()},
        }


def set_up(config: SearchConfig, console: Console) -> Setup:
    """Look up and check everything that a search's settings name.

    Raises:
        UserError: If something does not exist, or cannot be used.
    """
    space = get_space(config.space)
    if config.gradient_checkpointing == "search":
        space = with_checkpointing(space)
    if config.sampler == "grid":
        space = on_grid(space)
    return _replayed(config, space, console) if config.replay else _trained(config, space, console)


def _trained(config: SearchConfig, space: Space, console: Console) -> Setup:
    if config.strategy == "oneshot":
        require_elastic(space)
    dataset = open_dataset(config.dataset)
    encoders = {modality: resolve_encoder(modality, name) for modality, name in config.encoders.items()}
    dataset.require(encoders)
    for encoder in encoders.values():
        encoder.weights_location()  # refuses architectures without weights
    setting = TrainingSetting(
        batch_size=config.batch_size,
        gradient_accumulation=config.gradient_accumulation,
        text_length=config.text_length or typical_text_length(dataset, encoders["text"]),
        image_size=config.image_size or encoders["image"].image_size or 224,
        precision=config.precision,
        attention=config.attention,
        encoder_dropout=config.encoder_dropout,
        gradient_checkpointing=config.gradient_checkpointing == "on",
        prefix=config.prefix,
        optimizer=config.optimizer,
        optimizer_kernel=config.optimizer_kernel,
    )
    context = SpaceContext.of(encoders)
    if config.strategy == "oneshot":
        space = subnet_space(space, context, config.learning_rate)
    predictor = MemoryPredictor(encoders, dataset.task, setting, memo=PredictionMemo())
    details = {
        "resolved.text_length": setting.text_length,
        "resolved.image_size": setting.image_size,
        "dataset.fingerprint": dataset.fingerprint,
        **_described(dataset.task),
        **{f"dataset.{split}": dataset.count(split) for split in dataset.files},
        **{f"encoder.{m}.fingerprint": encoder.fingerprint() for m, encoder in encoders.items()},
    }
    guess = dataset.task.guess(dataset.labels("validation"))
    history, rule = _compared(config, space, context, predictor, guess, details, console)
    return Setup(config, space, context, setting, predictor, history, rule, details, dataset, encoders, None)


def _replayed(config: SearchConfig, space: Space, console: Console) -> Setup:
    table = ReplayTable.read(config.replay or "")
    table.require(config.space, config.epochs)
    for name in config.objectives:
        if name not in (*KNOWN, *table.metrics):
            raise UserError(f"--replay {table.path}: does not hold the objective '{name}'")
    predictor: Any = ReplayPredictor(table)
    details = {"replay.fingerprint": table.fingerprint, **_described(table.task)}
    history, rule = _compared(config, space, table.context, predictor, table.guess, details, console)
    return Setup(
        config, space, table.context, table.setting, predictor, history, rule, details, None, {}, table
    )


def _described(task: Task) -> dict[str, Any]:
    return {f"dataset.{name}": value for name, value in task.summary().items()}


def _compared(
    config: SearchConfig,
    space: Space,
    context: SpaceContext,
    predictor: MemoryPredictor,
    guess: Mapping[str, float],
    details: dict[str, Any],
    console: Console,
) -> tuple[History, Rule]:
    """Return an empty history and the rule; the reference values are added to the details."""
    objectives = get_objectives(config.objectives)
    constraints = parse_constraints(config.all_constraints)
    for constraint in constraints:
        if constraint.known and constraint.direction == "<=":
            _require_a_fit(space, context, predictor, constraint)
    largest = [known_values(report) for report in _largest(space, context, predictor, console)]
    bounds = {c.name: c.bound for c in reversed(constraints) if c.direction == "<="}
    reference = reference_values(
        objectives,
        guess=guess,
        **{name: bounds.get(name, 1.1 * max(known[name] for known in largest)) for name in KNOWN},
    )
    details |= {f"reference.{name}": value for name, value in reference.items()}
    rule = make_rule(
        config.scheduler,
        objectives,
        config.epochs,
        config.reduction_factor,
        config.first_rung,
        guess,
    )
    return History(objectives, reference, constraints), rule


def _require_a_fit(
    space: Space, context: SpaceContext, predictor: MemoryPredictor, constraint: Constraint
) -> None:
    """Refuse a constraint to which no configuration keeps."""

    def value(config: dict[str, Any]) -> float:
        return known_values(predictor.predict_configuration(config))[constraint.name]

    least = cheapest(space, context, value, constraint.bound)
    if least > constraint.bound:
        raise UserError(
            f"{constraint}: nothing in space '{space.name}' fits; its smallest configuration takes "
            f"{_amount(constraint.name, least)} at batch size {predictor.setting.batch_size}"
        )


def cheapest(
    space: Space, context: SpaceContext, cost: Callable[[dict[str, Any]], float], enough: float
) -> float:
    """Return what the cheapest of a space's smallest members costs, or the first that costs little enough."""
    found: list[float] = []
    for config in space.smallest(context):
        found.append(cost(config))
        if found[-1] <= enough:
            break
    return min(found)


def _amount(name: str, value: float) -> str:
    unit = {"memory": GIB, "checkpoint": MIB}.get(name)
    return format_size(round(value * unit)) if unit else f"{value:,.0f}"


def _largest(
    space: Space, context: SpaceContext, predictor: MemoryPredictor, console: Console
) -> list[MemoryReport]:
    """Predict the space's largest configurations; of a space of many methods there are many."""
    ends = space.largest(context)
    with console.status(f"predicting the memory of space '{space.name}'") as status:
        reports = []
        for number, config in enumerate(ends):
            status.update(f"predicting the memory of space '{space.name}': {number} of {len(ends)}")
            reports.append(predictor.predict_configuration(config))
    return reports


def make_spec(setup: Setup, console: Console) -> TrialSpec:
    """Prepare the data; return what all trials have in common."""
    config, dataset, setting = setup.config, setup.dataset, setup.setting
    assert dataset is not None
    with console.status(f"preparing '{dataset.name}'") as status:
        data = prepare(
            dataset,
            setup.encoders,
            text_length=setting.text_length,
            image_size=setting.image_size,
            progress=lambda split, done, total: status.update(
                f"preparing '{dataset.name}': {split} {done:,} of {total:,}"
            ),
        )
    return TrialSpec(
        # Workers run in folders of their own: relative paths would mean something else there.
        dataset=config.dataset if config.dataset in DATASETS else str(Path(config.dataset).resolve()),
        prepared=data.key,
        encoders={modality: encoder.address for modality, encoder in setup.encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in setup.encoders.items()},
        setting=setting,
        epochs=config.epochs,
        augment=config.augment,
        feature_cache=config.feature_cache_size if config.feature_cache else 0,
        prefixes=_prefixes(setup),
        hang_timeout=config.hang_timeout,
        plugins=tuple(Plugin.read(path) for path in config.plugins),
    )


def _prefixes(setup: Setup) -> dict[str, tuple[int, ...]]:
    """The frozen depths that the space's members may have, between its smallest and largest members."""
    found: dict[str, set[int]] = {modality: set() for modality in setup.encoders}
    for ends in zip(setup.space.smallest(setup.context), setup.space.largest(setup.context), strict=True):
        depths = [setup.predictor.prefix_layers(*split_config(end)) for end in ends]
        for modality, layers in found.items():
            given = [depth[modality] for depth in depths if modality in depth]
            if given:
                layers |= set(range(min(given), max(given) + 1))
    return {modality: tuple(sorted(layers)) for modality, layers in found.items() if layers}
