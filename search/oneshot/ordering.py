"""The order to train a supernet, in steps that satisfy the budget and fit a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from search.backends.training import PreparedTraining
from search.engine.gate import Gate, HeadStart
from search.goals.objectives import known_values
from search.oneshot.worker import SupernetJob
from search.placement import Placement, Share
from search.setup import Setup
from search.units import format_size
from trainables.configuration import recipe_changes, setting_changes
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.step.setting import TrainingSetting
from trainables.supernet.plan import SupernetPlan
from trainables.supernet.prediction import predict_supernet
from trainables.trial.workbench import TrialSpec

#: Most parts that a batch is split into so that the supernet's step fits.
_MOST_PARTS = 64


@dataclass(frozen=True)
class SupernetOrder:
    """A supernet to train, with the memory and the devices that it needs.

    Attributes:
        job: The workers' job.
        config: Configuration of the largest subnet.
        memory: Predicted memory of a worker, in the search's setting.
        expected: Memory of a worker as and where this search runs it.
        share: The share of a device that each worker gets.
        workers: Number of workers.
    """

    job: SupernetJob
    config: dict[str, Any]
    memory: MemoryReport
    expected: MemoryReport
    share: Share
    workers: int


def supernet_spec(setup: Setup, spec: TrialSpec) -> TrialSpec:
    """Return the settings of a supernet: those of all trials, as the space's first point changes them.

    Args:
        setup: The setup of the search; its space is that of subnets.
        spec: The settings that all trials share.

    Raises:
        UserError: If the batch size cannot be divided among workers and the parts of their steps.
    """
    first = _first_point(setup)
    setting = replace(spec.setting, **setting_changes(first))
    workers, parts = setup.config.oneshot.workers, setting.gradient_accumulation
    if setting.batch_size % (workers * parts):
        raise UserError(
            f"--workers {workers} times --gradient-accumulation {parts}: must divide the batch_size of the "
            f"first point of space '{setup.space.name}', {setting.batch_size}"
        )
    return replace(spec, setting=setting, recipe=replace(spec.recipe, **recipe_changes(first)))


def order_supernet(
    setup: Setup, prepared: PreparedTraining, placement: Placement, gate: Gate, say: Callable[[str], None]
) -> SupernetOrder:
    """Split the supernet's steps into the fewest parts that satisfy the budget and fit a device.

    Args:
        setup: The setup of the search; its space is that of subnets.
        prepared: The backend that trains the supernet.
        placement: The devices and their memory.
        gate: Gives the bytes that a worker needs on its device.
        say: Called with a message if steps run in more parts than the settings ask for.

    Raises:
        UserError: If the supernet does not fit in any number of parts; and see ``supernet_spec``.
    """
    config = setup.config
    largest = setup.space.largest(setup.context)[0]
    spec = supernet_spec(setup, prepared.spec)
    setting = replace(spec.setting, batch_size=spec.setting.batch_size // config.oneshot.workers)
    job = SupernetJob(
        spec,
        config.search.space,
        setup.context,
        largest["learning_rate"],
        config.oneshot.supernet_epochs,
        config.oneshot.paths,
        config.oneshot.distill,
        config.search.seed,
    )
    plan = job.plan()
    gate = gate.starting(HeadStart.of(setup))
    tight: list[str] = []
    while True:
        memory, expected = _predicted(setup, prepared.predictor, setting, plan, placement.device)
        starting, limit = gate.needed_to_start(largest, expected), placement.limit
        if limit is not None and starting > limit:
            raise UserError(
                f"--head-start probe: the supernet of space '{config.search.space}' needs "
                f"{format_size(starting)} to start its head, and a device has {format_size(limit)}; use "
                "--head-start random"
            )
        needed = gate.needed_for(largest, expected)
        too_tight = _too_tight(setup, placement, memory, needed)
        if not too_tight:
            break
        tight = too_tight
        parts = 2 * setting.gradient_accumulation
        if parts > _MOST_PARTS or setting.batch_size % parts:
            stated = "batch_size" in setting_changes(_first_point(setup))
            raise UserError(
                f"--strategy oneshot: the supernet of space '{config.search.space}' takes "
                f"{format_size(memory.memory)}, however many parts its steps run in; that breaks "
                f"{' and '.join(tight)}; lower {'its batch_size' if stated else '--batch-size'}, or use "
                "--strategy trials"
            )
        setting = replace(setting, gradient_accumulation=parts)
    if tight:
        parts = setting.gradient_accumulation
        pairs = "; wrong pairs are those within a part" if setup.backend.task.query is not None else ""
        say(f"the supernet's steps run in {parts} parts, to keep to {' and '.join(tight)}{pairs}")
    accumulated = replace(spec.setting, gradient_accumulation=setting.gradient_accumulation)
    return SupernetOrder(
        replace(job, spec=replace(spec, setting=accumulated)),
        largest,
        replace(memory, inference=setup.predictor.predict_configuration(largest).inference),
        expected,
        placement.worker(needed, config.oneshot.workers),
        config.oneshot.workers,
    )


def _predicted(
    setup: Setup, predictor: MemoryPredictor, setting: TrainingSetting, plan: SupernetPlan, device: str
) -> tuple[MemoryReport, MemoryReport]:
    """Return a worker's memory in the search's setting, and as this search runs it on its kind of device.

    Workers that share gradients hold buckets with the gradients of all trained weights, even if a step trains
    only some of them. The gradients that a step holds at its peak anyway are counted twice.
    """
    as_run = replace(setting, target=device).as_run(cached=setup.config.trial.feature_cache)
    shared = setup.config.oneshot.workers > 1

    def predicted(at: TrainingSetting) -> MemoryReport:
        report = predict_supernet(predictor.changed(**at.to_dict()), plan.method, plan.curriculum)
        return report.with_gradients(report.checkpoint if shared else 0)

    return predicted(setting), predicted(as_run)


def _too_tight(setup: Setup, placement: Placement, memory: MemoryReport, needed: int) -> list[str]:
    """Return the limits that the supernet breaks, in words."""
    values = known_values(memory)
    budgets = [c for c in setup.history.constraints if c.name == "memory"]
    broken = [str(constraint) for constraint in budgets if constraint.violation(values) > 0]
    if placement.limit is not None and needed > placement.limit:
        broken.append(f"the {format_size(placement.limit)} of the largest device")
    return broken


def _first_point(setup: Setup) -> dict[str, Any]:
    """Return the configuration of the space's first point."""
    return setup.space.at(setup.space.first_points(setup.context)[0], setup.context).config
