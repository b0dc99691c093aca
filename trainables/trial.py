"""One trial: a configuration trained once, as a Ray Tune trainable."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from ray import tune
from safetensors.torch import load_file, save_file

from trainables.assignment import Assignment
from trainables.calibration import CUDA_CONTEXT, GIB
from trainables.configuration import setting_changes, split_config
from trainables.data import Loader
from trainables.measure import Measured, limit_memory
from trainables.methods import FusionMethod, build_method
from trainables.outcome import first_line, is_out_of_memory, tried_to_allocate
from trainables.supernet import SupernetWeights
from trainables.trainer import DivergedError, Tick, Trainer, no_tick
from trainables.watchdog import Watchdog
from trainables.workbench import TrialSpec, Workbench, default_device

_T = TypeVar("_T")


@dataclass
class TrialRun:
    """A configuration being trained, without anything of Ray: usable from plain Python too.

    Args:
        spec: What all trials share.
        assignment: What this one is to do; without a checkpoint to go on from it starts anew.
        inherited: A supernet to take the initial weights from; None draws them at random.
    """

    spec: TrialSpec
    assignment: Assignment
    inherited: SupernetWeights | None = None
    device: torch.device = field(default_factory=lambda: torch.device(default_device()))

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self.stage = "building"
        self.config = self.assignment.config
        self.bench = Workbench(self.spec, self.device, self.assignment.threads)
        setting = replace(self.spec.setting, **setting_changes(self.config))
        self.setting = setting.as_run(cached=self.spec.feature_cache > 0)
        self.method = self._build().to(self.device)
        train = self.loader("train")
        layers = self.method.prefix_layers()
        #: Whether steps run as ``setting`` says: the cache may lack the room for a split.
        self.as_set = self.setting.prefix == "computed" or set(train.features) == set(layers)
        self.trainer = Trainer(
            self.method,
            self.setting,
            self.config["learning_rate"],
            self.spec.epochs,
            train,
            self.assignment.seed,
            self.bench.data.info["task"],
        )
        self.validation = self.loader("validation")
        self.measured: Measured | None = None
        if self.assignment.checkpoint is not None:
            with self.assignment.checkpoint.as_directory() as folder:
                self.load(Path(folder))
        self.setup_seconds = time.perf_counter() - started

    def loader(self, split: str) -> Loader:
        """Return a split's batches, with the frozen prefix's cached output where the method has one.

        Raises:
            UserError: If the cache lacks the room for what the setting wants from there.
        """
        return self.bench.loader(split, self.method, self.setting)

    def epoch(self, tick: Tick = no_tick) -> dict[str, float]:
        """Train one epoch and evaluate on the validation split; ``stage`` says which of the two it is at.

        Args:
            tick: Called after each step and each batch of the validation split.

        Returns:
            The task's metrics, ``epoch``, ``train_loss``, ``step_time`` (seconds of a step, the median of the
            epoch's), ``measured_memory`` (GiB held by tensors at the peak of a step, once one was measured),
            on a GPU ``reserved_memory``, and where the time went: ``setup_seconds`` (the same in every epoch;
            cached features are computed here), ``epoch_seconds`` and ``validation_seconds``.
        """
        self.stage = "training"
        result = self.trainer.train_epoch(tick)
        self.measured = self.measured or self.trainer.meter.measured
        if self.measured is not None:
            result["measured_memory"] = self.measured.allocated / GIB
            if self.measured.reserved is not None:
                result["reserved_memory"] = self.measured.reserved / GIB
        started = time.perf_counter()
        self.stage = "validation"
        result |= self.trainer.evaluate(self.validation, tick)
        return {
            **result,
            "validation_seconds": time.perf_counter() - started,
            "setup_seconds": self.setup_seconds,
            "epoch": self.trainer.epoch,
        }

    def evaluate(self, split: str) -> dict[str, float]:
        """Return the task's metrics on a split."""
        return self.trainer.evaluate(self.loader(split))

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the trained weights, the configuration, and what training needs to go on."""
        weights = {k: v.contiguous().cpu() for k, v in self.method.trainable_state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        torch.save(self.trainer.state_dict(), folder / "trainer.pt")
        described = {"config": dict(self.config), "seed": self.assignment.seed, "spec": asdict(self.spec)}
        (folder / "trial.json").write_text(json.dumps(described, indent=1))

    def load(self, folder: Path) -> None:
        """Read a checkpoint."""
        self.method.load_trainable_state_dict(load_file(folder / "weights.safetensors"))
        self.trainer.load_state_dict(torch.load(folder / "trainer.pt", weights_only=True))

    def _build(self) -> FusionMethod:
        name, fields = split_config(self.config)
        context = self.bench.context(self.setting)
        torch.manual_seed(self.assignment.seed)
        method = build_method(name, fields, context)
        if self.inherited is not None:
            supernet = self.inherited.supernet(context)
            method.load_trainable_state_dict(supernet.subnet_state_dict(fields, method))
        return method


class FusionTrial(tune.Trainable):
    """Ray Tune's view of a ``TrialRun``: one epoch a step, all objectives every epoch.

    A worker keeps its process, and so its encoders, from one trial to the next. Running out of memory and
    diverging are results, with which the trial is done: ``status`` (``out_of_memory`` or ``diverged``),
    ``stage`` (``building``, ``training``, ``validation`` or ``checkpoint``), ``message``, and
    ``below_share``: whether the trial itself had less than it was granted, so that others were in its way;
    None where that cannot be known. Any other error is raised, and Ray Tune starts the trial again from its
    last checkpoint.
    """

    def setup(
        self, config: dict[str, Any], spec: TrialSpec, inherited: SupernetWeights | None = None
    ) -> None:
        """Take the first configuration."""
        self._spec = spec
        self._inherited = inherited
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration in the same process.

        It is built in the first step: Ray Tune starts a trial again whose worker died in a step, but not one
        whose worker died here.
        """
        self._assignment: Assignment = new_config["assignment"]
        self._run: TrialRun | None = None
        self._saved: TemporaryDirectory[str] | None = None
        self._ending: dict[str, Any] | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and save it: what is reported can be gone on from."""
        watchdog = Watchdog(Path(self.logdir), self._spec.hang_timeout)
        watchdog.start()
        if self._ending is not None:
            return self._ending
        return self._survive(lambda: self._epoch(watchdog))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Hand over what the step saved; a trial that ended without a result leaves nothing."""
        if self._saved is not None:
            # Links, as the same epoch may be asked for twice; both are temporary folders.
            shutil.copytree(self._saved.name, checkpoint_dir, copy_function=os.link, dirs_exist_ok=True)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read a checkpoint."""
        self._survive(lambda: self._build().load(Path(checkpoint)))

    def cleanup(self) -> None:
        """Let go of everything; Ray Tune calls it when the worker ends."""
        self._run = self._saved = None

    def _build(self) -> TrialRun:
        if self._run is None:
            limit_memory(self._assignment.granted)
            self._run = TrialRun(self._spec, self._assignment, self._inherited)
        return self._run

    def _epoch(self, watchdog: Watchdog) -> dict[str, Any]:
        run = self._build()
        with watchdog.watching():
            result = run.epoch(watchdog.tick)
        bad = [f"{name} became {value}" for name, value in result.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(f"{', '.join(bad)} in epoch {run.trainer.epoch}")
        run.stage = "checkpoint"
        self._saved = TemporaryDirectory()
        run.save(Path(self._saved.name))
        expected = self._assignment.expected
        if run.as_set and expected is not None:
            result["expected_memory"] = expected / GIB
        return {**result, "done": run.trainer.epoch >= self._spec.epochs}

    def _survive(self, work: Callable[[], _T]) -> _T | dict[str, Any]:
        """Return what the work returns, or how it ended the trial; the process can take another one then."""
        try:
            return work()
        except Exception as error:
            if isinstance(error, DivergedError):
                status = "diverged"
            elif is_out_of_memory(error):
                status = "out_of_memory"
            else:
                raise
            ending = {
                "status": status,
                "stage": self._run.stage if self._run is not None else "building",
                "message": first_line(error),
                "below_share": _below_share(error, self._assignment.granted),
                "done": True,
            }
        # Out here the error is gone, and with its frames the step's tensors.
        self._ending, self._run, self._saved = ending, None, None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return ending


def _below_share(error: Exception, granted: int | None) -> bool | None:
    """Whether this process would have stayed within its share of the device, had it got what it asked for."""
    if granted is None or not torch.cuda.is_available():
        return None
    return torch.cuda.memory_reserved() + (tried_to_allocate(error) or 0) < granted - CUDA_CONTEXT


def test_metrics(spec: TrialSpec, assignment: Assignment) -> dict[str, float]:
    """Return the metrics on the test split of a trial's checkpoint."""
    return TrialRun(spec, assignment).evaluate("test")
