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
from ray.tune.stopper import Stopper
from rich.console import Console

from search.config import SearchConfig
from search.engine.recorder import Recorder
from search.engine.searcher import ParetoSearcher
from search.execution.survival import Survival
from search.placement import Node, Placement
from search.records.history import TrialRecord
from search.records.status import Status
from search.reporting.progress import Progress
from search.reporting.tracker import Tracker
from search.setup import Setup, cheapest
from search.units import format_size
from trainables.errors import UserError
from trainables.trial.assignment import folder_name


@contextlib.contextmanager
def cluster(wanted: str | None) -> Iterator[None]:
    """Join or start Ray; one that was started here is stopped here.

    Args:
        wanted: Address of the cluster; None starts Ray on this machine, unless the environment names one.
    """
    started = not ray.is_initialized()
    if started:
        address = wanted or os.environ.get("RAY_ADDRESS") or "local"
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
    alone = config.backend.address in (None, "local") and not os.environ.get("RAY_ADDRESS")
    asked = config.placement
    if alone and (asked.gpus_per_trial or asked.gpu_memory) and not any(node.gpus for node in nodes):
        option = "--gpus-per-trial" if asked.gpus_per_trial else "--gpu-memory"
        raise UserError(f"{option}: there is no GPU here; leave it out, or join a cluster with --address")


def require_room(setup: Setup, placement: Placement) -> None:
    """Refuse a cluster on which no configuration could ever be placed."""
    if placement.limit is None:
        return

    def needed(config: dict[str, Any]) -> int:
        expected = setup.predictor.predict_as_run(config, cached=setup.config.trial.feature_cache)
        return placement.needed(expected.total)

    least = cheapest(setup.space, setup.context, needed, placement.limit)
    if least > placement.limit:
        raise UserError(
            f"space '{setup.space.name}': its smallest configuration needs {format_size(round(least))} of a "
            f"device, and a trial can have {format_size(placement.limit)} here; choose a smaller "
            "--batch-size or larger devices"
        )


class Results(Stopper):
    """Takes each result, and stops the trials that do not go on.

    Of all that may be given to Ray Tune (2.60), a stopper alone is asked about every result, and before
    anyone else: scheduler and searcher do not hear of a trial's last one, and callbacks hear of each after
    these two. So results are recorded here and nowhere else.

    A trial that the rule holds up is stopped, as far as Ray Tune knows. If the rule may promote it later, the
    searcher keeps it as paused and hands it out again, to go on from its checkpoint: no worker is held
    meanwhile, and it survives the end of Ray Tune.

    Args:
        recorder: What takes them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its stopper, and this one has no state of its own."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take a result; return whether the trial stops."""
        return not self.recorder.report(trial_id, result)

    def stop_all(self) -> bool:
        """Return False: the searcher says when there is nothing left to do."""
        return False


class Events(Callback):
    """Has the recorder take what else Ray Tune tells of a trial, but for its end, which the searcher takes.

    Args:
        recorder: What takes it.
        console: Told of errors, and where Ray Tune left their details.
    """

    def __init__(self, recorder: Recorder, console: Console) -> None:
        self.recorder = recorder
        self.console = console

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks; what listens to the recorder cannot be, nor need it be.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note who runs it."""
        self.recorder.start(trial.trial_id, trial.temporary_state.ray_actor._actor_id.hex())

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep where its checkpoint lies."""
        self.recorder.save(trial.trial_id, trial.checkpoint)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count that it starts again, and say why, unless that was its end."""
        record = self.recorder.history.leg(trial.trial_id)
        if record.status is Status.RUNNING:
            self.recorder.restart(trial.trial_id)
            _say(self.console, record, f"goes on after epoch {len(record.epochs)}: {record.message}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say what happened; the searcher has settled how the trial ended."""
        record = self.recorder.history.leg(trial.trial_id)
        details = trial.error_file or "no further details"
        _say(self.console, record, f"{record.status}: {record.message} ({details})")


class Cleaner:
    """Says how trials ended that have no result, and removes files that nobody needs any more.

    Args:
        console: Told what went wrong.
        folder: The search's folder, or remote address.
    """

    def __init__(self, console: Console, folder: str) -> None:
        self.console = console
        self.folder = folder

    def started(self, record: TrialRecord) -> None:
        """Do nothing."""

    def reported(self, record: TrialRecord) -> None:
        """Do nothing."""

    def ended(self, record: TrialRecord) -> None:
        """Say what went wrong; of the trial's legs only the last one's checkpoint is kept."""
        if record.ending is not None:
            _say(self.console, record, record.message)
        if "://" not in self.folder:
            for leg in range(1, record.legs):
                shutil.rmtree(Path(self.folder) / folder_name(record.trial_id, leg), ignore_errors=True)


def _say(console: Console, record: TrialRecord, what: str) -> None:
    console.print(f"{record.trial_id} {what}", markup=False, soft_wrap=True)


def run_trials(
    setup: Setup,
    trainable: Any,
    placement: Placement,
    searcher: ParetoSearcher,
    tracker: Tracker,
    console: Console,
) -> bool:
    """Run the trials; return whether they came to an end.

    Args:
        setup: The search's.
        trainable: What Ray Tune runs, as a backend gives it.
        placement: What trials are given.
        searcher: Says what is run.
        tracker: Told of it.
        console: Where progress is shown.
    """
    config = setup.config
    setting = setup.setting
    epochs = f"{config.trial.epochs} epoch{'s' if config.trial.epochs > 1 else ''}"
    console.print(
        f"search '{config.run_name}': {searcher.planned} trials of {epochs}, "
        f"{placement.summary}; batch {setting.batch_size}, "
        f"{setting.text_length} tokens, {setting.image_size} px",
        markup=False,
        soft_wrap=True,
    )
    if placement.note:
        console.print(placement.note, markup=False, soft_wrap=True)
    deadline = time.monotonic() + config.search.time_budget if config.search.time_budget is not None else None
    with Progress(
        console, setup.history, searcher.planned, config.trial.epochs, config.search.time_budget
    ) as progress:
        location = config.storage.location
        folder = location if "://" in location else str(Path(location) / config.run_name)
        recorder = searcher.recorder
        recorder.listeners += [tracker, progress, Cleaner(console, folder)]

        def tuner() -> tune.Tuner:
            return tune.Tuner(
                tune.with_resources(trainable, lambda handed: handed["share"].request()),
                tune_config=TuneConfig(
                    search_alg=searcher,
                    scheduler=Survival(recorder),
                    num_samples=-1,  # the searcher counts
                    max_concurrent_trials=placement.concurrent,
                    time_budget_s=None if deadline is None else max(1.0, deadline - time.monotonic()),
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.config["assignment"].folder,
                ),
                run_config=RunConfig(
                    name=config.run_name,
                    storage_path=location,
                    failure_config=FailureConfig(max_failures=config.placement.max_failures),
                    # Two: the last one is still there when the store does not know of the next one yet.
                    checkpoint_config=CheckpointConfig(
                        checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True
                    ),
                    stop=Results(recorder),
                    callbacks=[Events(recorder, console)],
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
                searcher.break_off(str(error.__cause__))
    return not setup.history.close() or config.search.time_budget is not None
