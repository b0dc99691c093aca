"""Runs a search's trials with Ray Tune, and hears of Ray Tune's events."""

from __future__ import annotations

import contextlib
import re
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.train._internal.storage import StorageContext
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Experiment
from ray.tune.stopper import Stopper
from rich.console import Console

from search.backends.trainable import NOTICES
from search.config import SearchConfig
from search.engine.recorder import Recorder
from search.engine.searcher import ParetoSearcher
from search.execution.cleaning import Cleaner
from search.execution.room import Waiting
from search.execution.session import changed
from search.execution.survival import Survival
from search.nodes import addresses
from search.placement import Placement
from search.records.history import OUTPUTS, TrialRecord
from search.records.place import MOVE, inner_path
from search.records.status import Status
from search.reporting.clock import Clock
from search.reporting.progress import Progress, say
from search.reporting.tracker import Tracker
from search.setup import Setup
from trainables.disk import disk_full, is_disk_full
from trainables.errors import UserError, chain
from trainables.trial.watchdog import NOTE


class Results(Stopper):
    """Has each result recorded, and stops the trials that do not continue.

    In Ray Tune (2.60), only a stopper gets every result, and gets it first. Scheduler and searcher do not
    hear of a trial's last result, and callbacks are called after them. Results are therefore recorded here
    and nowhere else.

    For Ray Tune, a trial that the rule pauses is stopped. The searcher keeps it as paused; if the rule
    promotes it later, the searcher hands it out again, to resume from its checkpoint. A paused trial holds no
    worker, and it survives the end of Ray Tune.

    Args:
        recorder: Records the results.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its stopper, and this one has no state of its own."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record a result; return whether the trial stops."""
        outputs = result.pop(OUTPUTS, None)  # Ray Tune would hold them as long as the search runs
        return not self.recorder.report(trial_id, result, outputs)

    def stop_all(self) -> bool:
        """Return False: the searcher decides when the search ends."""
        return False


class Events(Callback):
    """Has a trial's other events recorded, except its end, which the searcher records.

    Args:
        recorder: Records the events.
        console: Shows errors, and where their details are.
        folder: The search's folder on this machine, which gets a folder with the details of errors.
    """

    def __init__(self, recorder: Recorder, console: Console, folder: Path) -> None:
        self.recorder = recorder
        self.console = console
        self.folder = folder
        self._shown: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks. The recorder's listeners cannot be pickled, and need not be.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record which worker runs a trial."""
        self.recorder.start(trial.trial_id, trial.temporary_state.ray_actor._actor_id.hex())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show what a worker wants the user to know, and what a trial remarks about its checkpoints."""
        if "remark" in result:
            _say(self.console, self.recorder.history.leg(trial.trial_id), result["remark"])
        for line in result.get(NOTICES, ()):  # once, even if others say it with other figures
            words = re.sub(r"[\d.]+", "", line)
            if words not in self._shown:
                self._shown.add(words)
                say(self.console, line)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record where a trial's checkpoint is."""
        self.recorder.save(trial.trial_id, inner_path(trial.checkpoint.path))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a restart of a trial and say why, unless the trial has ended."""
        record = self.recorder.history.leg(trial.trial_id)
        if record.status is Status.RUNNING:
            self.recorder.restart(trial.trial_id)
            self._keep_details(trial, record)
            _say(self.console, record, f"goes on after epoch {len(record.epochs)}: {record.message}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say what happened to a trial; the searcher has already settled how it ended."""
        record = self.recorder.history.leg(trial.trial_id)
        details = self._keep_details(trial, record) or "no further details"
        _say(self.console, record, f"{record.status}: {record.message} ({details})")

    def _keep_details(self, trial: Any, record: TrialRecord) -> Path | None:
        """Copy what explains an error: Ray's folder, in which it is, may be removed with its Ray."""
        kept = self.folder / "errors" / f"{record.trial_id}.txt"
        if not trial.error_file:
            return None
        found = [Path(trial.error_file), Path(trial.storage.trial_working_directory, NOTE)]
        texts = [path.read_text(errors="replace") for path in found if path.exists()]
        with contextlib.suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text("\n".join(texts))
        return kept


class Endings:
    """Says which trials ended without a result, and why.

    Args:
        console: Where it says so.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def started(self, record: TrialRecord) -> None:
        """Do nothing."""

    def reported(self, record: TrialRecord) -> None:
        """Do nothing."""

    def ended(self, record: TrialRecord) -> None:
        """Say what went wrong; of a trial that was set aside, ``Mistakes`` does."""
        if record.ending is not None and record.status is not Status.SET_ASIDE:
            _say(self.console, record, record.message)


def _say(console: Console, record: TrialRecord, what: str) -> None:
    say(console, f"{record.trial_id} {what}")


def run_trials(
    setup: Setup,
    trainable: Any,
    placement: Placement,
    searcher: ParetoSearcher,
    tracker: Tracker,
    clock: Clock,
    console: Console,
) -> bool:
    """Run the trials; return False if the search was interrupted.

    Args:
        setup: The setup of the search.
        trainable: The trainable that a backend provides for Ray Tune.
        placement: Decides what share of a device a trial gets.
        searcher: Hands out the trials.
        tracker: Records the trials in MLflow.
        clock: Measures what the time of the trials is spent on.
        console: Where progress is shown.

    Raises:
        UserError: If the store or a trial cannot write any more, a ``DiskFullError`` for want of space; or if
            no trial can run, a ``NodeError``.
    """
    config = setup.config
    alone = config.configuration.method is not None
    for line in _plan(setup, placement, searcher):
        say(console, line)
    deadline = time.monotonic() + config.search.time_budget if config.search.time_budget is not None else None
    with (
        clock.trials(),
        Progress(
            console,
            setup.history,
            config.search.seeds if alone else searcher.planned,
            config.trial.epochs,
            config.search.time_budget,
            alone=alone,
        ) as progress,
    ):
        recorder = searcher.recorder
        cleaner = Cleaner(
            recorder,
            config.place.address,
            lambda: config.search.seeds == 1 or searcher.done,
            partial(say, console),
        )
        cleaner.sweep()
        searcher.mistakes.find_nodes = partial(addresses, gpus=placement.device == "cuda")
        searcher.mistakes.say = partial(say, console)
        recorder.listeners += [clock, tracker, progress, Endings(console), cleaner]

        while True:
            try:
                seconds = None if deadline is None else max(1.0, deadline - time.monotonic())
                with _folders_of(searcher.store.fact("search_id")):
                    _tuner(config, trainable, placement, searcher, seconds, console).fit()
                break
            except Exception as error:
                if mistake := _mistake(error, config.place.folder):
                    raise mistake from error
                # Ray Tune (2.60) handles the death of a worker as an event, unless Ray's memory monitor
                # killed it: then Ray Tune ends all trials and gives up.
                if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
                    raise
                searcher.break_off(str(error.__cause__))
        cleaner.sweep()
    # Ray Tune does not tell what has ended it. Trials need not run then: a signal may come between two.
    unfinished = setup.history.close() or not searcher.done
    interrupted = unfinished and (deadline is None or time.monotonic() < deadline)
    if not interrupted:
        searcher.mistakes.require_results(len(setup.history.by_status(Status.SET_ASIDE)))
    return not interrupted


def _tuner(
    config: SearchConfig,
    trainable: Any,
    placement: Placement,
    searcher: ParetoSearcher,
    seconds: float | None,
    console: Console,
) -> tune.Tuner:
    """Return Ray Tune's tuner, which ends after some seconds unless they are None."""
    recorder = searcher.recorder
    return tune.Tuner(
        tune.with_resources(trainable, lambda handed: handed["share"].request()),
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=Survival(recorder, searcher.mistakes.blame),
            num_samples=-1,  # the searcher counts
            max_concurrent_trials=placement.concurrent,
            time_budget_s=seconds,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["assignment"].folder,
        ),
        run_config=RunConfig(
            name=config.place.name,
            storage_path=config.place.storage,
            failure_config=FailureConfig(max_failures=config.placement.max_failures),
            # Two are kept, so that the one in the store exists until the store has the next one.
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True),
            stop=Results(recorder),
            callbacks=[Events(recorder, console, config.place.folder), Waiting(partial(say, console))],
            verbose=0,
        ),
    )


def _folders_of(search_id: str) -> AbstractContextManager[None]:
    """Let Ray Tune use folders of the search's own on the nodes, for files of workers and details of errors.

    Ray Tune (2.60) names them by the second and the search's name; another search may have the same.
    """

    def storage(**settings: Any) -> StorageContext:
        made = StorageContext(**settings)
        made._timestamp += f"_{search_id}"
        return made

    return changed(Experiment, "_storage_context_cls", staticmethod(storage))


def _plan(setup: Setup, placement: Placement, searcher: ParetoSearcher) -> list[str]:
    """Return lines that say what is going to be trained, and how."""
    config, setting = setup.config, setup.setting
    epochs = f"{config.trial.epochs} epoch{'s' if config.trial.epochs > 1 else ''}"
    if config.configuration.method is None:
        planned = f"search '{config.run_name}': {searcher.planned} trials of {epochs}"
    else:
        seeds = f"{config.search.seeds} seed{'s' if config.search.seeds > 1 else ''}"
        planned = f"training '{config.run_name}': {config.configuration.method}, {seeds}, {epochs}"
    rows = f"{config.data.train_rows:,} training rows, " if config.data.train_rows else ""
    sizes = setting.sizes.words(setup.predictor.kinds)
    lines = [f"{planned}, {placement.summary}; {rows}batch {setting.batch_size}, {sizes}"]
    return [*lines, placement.note] if placement.note else lines


def _mistake(error: Exception, folder: Path) -> UserError | None:
    """Return the user's mistake that made Ray Tune give up; None if it was no such mistake.

    Ray Tune (2.60) raises an error of its own in place of one from a callback.
    """
    mistakes = (link for link in chain(error) if isinstance(link, UserError) and str(link))
    return next(mistakes, None) or (disk_full(folder, MOVE) if is_disk_full(error) else None)
