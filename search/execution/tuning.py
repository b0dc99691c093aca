"""Ray Tune around a search: the cluster, the scheduler, and what is made of Ray Tune's events."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from search.config import SearchConfig
from search.engine.searcher import ParetoSearcher
from search.execution.survival import Survival
from search.execution.trainable import FusionTrial
from search.placement import Node, Placement
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.replay import ReplayTrial
from search.reporting.progress import Progress
from search.reporting.tracker import Tracker
from search.schedulers import Rule
from search.setup import Setup, cheapest
from search.units import format_size
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.trial.assignment import folder_name
from trainables.trial.workbench import TrialSpec


@contextlib.contextmanager
def cluster(config: SearchConfig) -> Iterator[None]:
    """Join or start Ray; one that was started here is stopped here."""
    started = not ray.is_initialized()
    if started:
        address = config.address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            options["include_dashboard"] = False
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--address {address}: no Ray cluster can be joined there ({reason})") from error
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def require_gpus(config: SearchConfig, nodes: list[Node]) -> None:
    """Refuse to wait for GPUs on this machine alone, where none will come."""
    alone = config.address in (None, "local") and not os.environ.get("RAY_ADDRESS")
    if alone and (config.gpus_per_trial or config.gpu_memory) and not any(node.gpus for node in nodes):
        option = "--gpus-per-trial" if config.gpus_per_trial else "--gpu-memory"
        raise UserError(f"{option}: there is no GPU here; leave it out, or join a cluster with --address")


def require_room(setup: Setup, placement: Placement) -> None:
    """Refuse a cluster on which no configuration could ever be placed."""
    if placement.limit is None:
        return

    def needed(config: dict[str, Any]) -> int:
        expected = setup.predictor.predict_as_run(config, cached=setup.config.feature_cache)
        return placement.needed(expected.total)

    least = cheapest(setup.space, setup.context, needed, placement.limit)
    if least > placement.limit:
        raise UserError(
            f"space '{setup.space.name}': its smallest configuration needs {format_size(round(least))} of a "
            f"device, and a trial can have {format_size(placement.limit)} here; choose a smaller "
            "--batch-size or larger devices"
        )


class RuleScheduler(Survival):
    """Asks a rule, at its milestones, whether a trial goes on.

    A trial that does not is stopped, as far as Ray Tune knows. If the rule may promote it later, the searcher
    keeps it as paused and hands it out again, to go on from its checkpoint: no worker is held meanwhile, and
    it survives the end of Ray Tune.

    Args:
        history: The trials.
        rule: The rule.
    """

    def __init__(self, history: History, rule: Rule) -> None:
        super().__init__(history)
        self.rule = rule

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that does not go on, and say in its status whether it may later."""
        record = self.history.leg(trial.trial_id)
        self.history.note(record, result)
        epoch = result.get("epoch", 0)
        if record.repeat_of is not None or epoch < len(record.epochs) or not epoch:
            return TrialScheduler.CONTINUE
        self.rule.note(record.trial_id, epoch, self.history.losses(record.values))
        if epoch not in self.rule.milestones or self.rule.goes_on(record.trial_id, epoch):
            return TrialScheduler.CONTINUE
        record.status = Status.PAUSED if self.rule.pauses else Status.STOPPED
        return TrialScheduler.STOP


class Events(Callback):
    """Passes Ray Tune's events on to history, store, tracking and progress."""

    def __init__(
        self, searcher: ParetoSearcher, tracker: Tracker, progress: Progress, console: Console, storage: str
    ) -> None:
        self.searcher = searcher
        self.history = searcher.history
        self.tracker = tracker
        self.progress = progress
        self.console = console
        self.storage = storage

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks; a terminal and a tracking client cannot be, nor need they be.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note who runs it."""
        record = self.history.leg(trial.trial_id)
        record.worker = trial.temporary_state.ray_actor._actor_id.hex()
        self.tracker.update(record)
        self.progress.update()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note an epoch."""
        # Ray Tune tells callbacks of a trial's last result before it tells the searcher.
        record = self.history.leg(trial.trial_id)
        self.history.note(record, result)
        self.tracker.update(record)
        self.progress.update()

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep where its checkpoint lies."""
        record = self.history.leg(trial.trial_id)
        record.checkpoint = trial.checkpoint
        self.searcher.save_trial(record)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count that it starts again."""
        record = self.history.leg(trial.trial_id)
        if record.status is Status.RUNNING:
            record.failures += 1
            self._say(record, f"goes on after epoch {len(record.epochs)}: {record.message}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close its books."""
        self.end(self.history.leg(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say what happened, and close its books."""
        record = self.history.leg(trial.trial_id)
        self._say(record, f"{record.status}: {record.message} ({trial.error_file or 'no further details'})")
        self.end(record)

    def end(self, record: TrialRecord) -> None:
        """Close a trial's books; of its legs only the last one's checkpoint is kept."""
        if record.ending is not None:
            self._say(record, record.message)
        self.tracker.update(record)
        self.tracker.progress()
        if "://" not in self.storage:
            for leg in range(1, record.legs):
                shutil.rmtree(Path(self.storage) / folder_name(record.trial_id, leg), ignore_errors=True)

    def _say(self, record: TrialRecord, what: str) -> None:
        self.console.print(f"{record.trial_id} {what}", markup=False, soft_wrap=True)


def run_trials(
    setup: Setup,
    spec: TrialSpec | None,
    placement: Placement,
    searcher: ParetoSearcher,
    tracker: Tracker,
    console: Console,
    inherited: SupernetWeights | None = None,
) -> bool:
    """Run the trials, with inherited initial weights if there are any; return whether they came to an end."""
    config = setup.config
    setting = setup.setting
    epochs = f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    console.print(
        f"search '{config.run_name}': {config.num_samples} trials of {epochs}, "
        f"{placement.summary}; batch {setting.batch_size}, "
        f"{setting.text_length} tokens, {setting.image_size} px",
        markup=False,
        soft_wrap=True,
    )
    if placement.note:
        console.print(placement.note, markup=False, soft_wrap=True)
    deadline = time.monotonic() + config.time_budget if config.time_budget is not None else None
    trainable = (
        tune.with_parameters(FusionTrial, spec=spec, inherited=inherited)
        if spec is not None
        else tune.with_parameters(
            ReplayTrial, table=setup.table, epochs=config.epochs, seconds=config.replay_seconds
        )
    )
    with Progress(console, setup.history, config.num_samples, config.epochs, config.time_budget) as progress:
        folder = config.storage if "://" in config.storage else str(Path(config.storage) / config.run_name)
        events = Events(searcher, tracker, progress, console, folder)

        def tuner() -> tune.Tuner:
            return tune.Tuner(
                tune.with_resources(trainable, lambda handed: handed["share"].request()),
                tune_config=TuneConfig(
                    search_alg=searcher,
                    scheduler=RuleScheduler(setup.history, setup.rule),
                    num_samples=-1,  # the searcher counts
                    max_concurrent_trials=placement.concurrent,
                    time_budget_s=None if deadline is None else max(1.0, deadline - time.monotonic()),
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.config["assignment"].folder,
                ),
                run_config=RunConfig(
                    name=config.run_name,
                    storage_path=config.storage,
                    failure_config=FailureConfig(max_failures=config.max_failures),
                    # Two: the last one is still there when the store does not know of the next one yet.
                    checkpoint_config=CheckpointConfig(
                        checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True
                    ),
                    callbacks=[events],
                    verbose=0,
                ),
            )

        while True:
            try:
                tuner().fit()
                break
            except RuntimeError as error:
                # Ray Tune (2.60) takes the death of a worker as an event, but not at the hand of Ray's memory
                # monitor: it ends all trials and gives up.
                if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
                    raise
                for record in searcher.break_off(str(error.__cause__)):
                    events.end(record)
    return not setup.history.close() or config.time_budget is not None
