"""One trial: a configuration trained once, in plain PyTorch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.configuration import recipe_changes, setting_changes, split_config
from trainables.data import Loader
from trainables.elastic import SupernetWeights
from trainables.memory.measuring import Measured
from trainables.methods import FusionMethod, build_method
from trainables.progress import Tick, no_tick
from trainables.seeds import short_seed
from trainables.step.precision import default_device
from trainables.tasks import Task, read_task
from trainables.trial.assignment import Assignment
from trainables.trial.checkpoint import TRAINER, TRIAL, WEIGHTS, check, seal
from trainables.trial.head_start import start_head
from trainables.trial.kept import kept_weights
from trainables.trial.outputs import Evaluation, Outputs
from trainables.trial.trainer import DivergedError, Trainer
from trainables.trial.workbench import TrialSpec, Workbench
from trainables.units import GIB

_T = TypeVar("_T")


@dataclass
class TrialRun:
    """A configuration being trained.

    Args:
        spec: Settings that all trials share.
        assignment: The trial's assignment. Its checkpoint is not loaded; see ``load``.
        inherited: A supernet that gives the initial weights; None draws them at random.
        device: The device on which the trial runs.
        tick: Called as building proceeds, and after each step and each batch of an evaluation.

    Attributes:
        outputs: Outputs on the validation split of the weights that are kept; None before the first epoch.
        tuned: ``Task.to_dict`` of the task as tuned to them; None before the first epoch.
    """

    spec: TrialSpec
    assignment: Assignment
    inherited: SupernetWeights | None = None
    device: torch.device = field(default_factory=lambda: torch.device(default_device()))
    tick: Tick = no_tick

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self.stage = "building"
        self.config = self.assignment.config
        self.bench = Workbench(self.spec, self.device, self.assignment.threads, self.tick)
        setting = replace(self.spec.setting, **setting_changes(self.config))
        self.setting = setting.as_run(cached=self.spec.feature_cache > 0)
        self.recipe = replace(self.spec.recipe, **recipe_changes(self.config))
        self.method = self._build().to(self.device)
        later = ("test",) if self.assignment.bar is not None else ()
        self.bench.fill(("train", "validation", *later), self.method, self.setting)
        train = self.loader("train")
        layers = self.method.prefix_layers()
        #: Whether steps run as ``setting`` states. They do not if the cache has no space for a split.
        self.as_set = self.setting.prefix == "computed" or set(train.features) == set(layers)
        self.trainer = Trainer(
            self.method,
            self.setting,
            self.recipe,
            self.config["learning_rate"],
            self.spec.epochs,
            train,
            self.assignment.seed,
            self.bench.task,
        )
        self.validation = self.loader("validation")
        self.kept = kept_weights(self.recipe.keep, self.spec.epochs, self.bench.task.metrics[0])
        self.outputs: Outputs | None = None
        self.tuned: dict[str, Any] | None = None
        self._started: Evaluation | None = None
        self.measured: Measured | None = None
        self.setup_seconds = time.perf_counter() - started

    def loader(self, split: str) -> Loader:
        """Return the batches of a split, with the cached output of the frozen prefix if there is one.

        Raises:
            UserError: If the setting requires cached output and the cache has no space for it.
        """
        return self.bench.loader(split, self.method, self.setting)

    def epoch(self) -> dict[str, float]:
        """Train one epoch and evaluate on the validation split. ``stage`` names the current part.

        Returns:
            The task's metrics; ``epoch``; ``train_loss``; ``step_time``, the epoch's median in seconds;
            ``measured_memory``, the peak GiB held by tensors, as soon as a step was measured, or
            ``measured_shorter`` as long as all texts were shorter than the setting's length; on a GPU
            ``reserved_memory`` in GiB; ``epoch_seconds`` and ``validation_seconds``; ``setup_seconds``, which
            is the same in every epoch and includes filling the feature cache and starting the head. The first
            epoch of a trial whose head starts from the probe also has the metrics before training, as
            ``start_accuracy`` and so on. With ``keep`` best, metrics are those of ``kept_epoch``.
        """
        before = None if self.trainer.epoch else self.start()
        names = [metric.name for metric in self.trainer.task.metrics]
        began = {f"start_{name}": before.metrics[name] for name in names} if before else {}
        self.stage = "training"
        result = self.trainer.train_epoch(self.tick)
        if self.measured is None or self.measured.shorter:
            self.measured = self.trainer.meter.measured
        if self.measured is not None:
            name = "measured_shorter" if self.measured.shorter else "measured_memory"
            result[name] = self.measured.allocated / GIB
            if self.measured.reserved is not None:
                result["reserved_memory"] = self.measured.reserved / GIB
        started = time.perf_counter()
        self.stage = "validation"
        evaluated = self.kept.judge(self.method, self.trainer.epoch, self._validate)
        self.outputs, self.tuned = evaluated.outputs, evaluated.task
        result |= evaluated.metrics
        return {
            **result,
            **began,
            "validation_seconds": time.perf_counter() - started,
            "setup_seconds": self.setup_seconds,
            "epoch": self.trainer.epoch,
        }

    def start(self) -> Evaluation | None:
        """Start the head from the probe, once, if the recipe says so and nothing has trained yet.

        Returns:
            The evaluation on the validation split before training; None without such a start.
        """
        probed = self.recipe.head_start == "probe" and self.inherited is None
        if probed and not self.trainer.epoch and self._started is None:
            started = time.perf_counter()
            loaders = {"train": self.trainer.train_loader, "validation": self.validation}

            def labels(split: str) -> Tensor:
                return self.trainer.outputs(loaders[split], self.tick)[1]

            start_head(self.method, self.trainer.task, labels, self.trainer.seed, self.tick)
            self._started = self.kept.judge(self.method, 0, self._validate)
            self.setup_seconds += time.perf_counter() - started
        return self._started

    def evaluate(self, split: str, without: Iterable[str] = ()) -> Evaluation:
        """Return the task's metrics on a split, and the outputs to keep, with the weights that are kept.

        Args:
            split: ``train``, ``validation`` or ``test``.
            without: Modalities that are taken away from all rows.
        """
        with self.kept.in_place(self.method):
            loader = self.loader(split).without(without)
            return self.trainer.evaluate(loader, self.tick, self._task())

    def score(self) -> Evaluation:
        """Return the evaluation on the test split, with its robustness if the settings ask for it.

        A query is not taken away. A modality without which a metric is not finite is left out.
        """
        found = self.evaluate("test")
        fused = self.bench.fused
        if not self.spec.robustness or len(fused) < 2:
            return found
        robustness = {}
        for modality in fused:
            if modality not in self.method.modalities:
                robustness[modality] = found.metrics
                continue
            with contextlib.suppress(DivergedError):
                robustness[modality] = self.evaluate("test", [modality]).metrics
        return replace(found, robustness=robustness)

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the kept weights, what was trained, and the state to resume training.

        Args:
            folder: An empty folder.
        """
        training = {k: v.contiguous().cpu() for k, v in self.method.trainable_state_dict().items()}
        save_file(self.kept.weights or training, folder / WEIGHTS)
        state = {**self.trainer.state_dict(), "kept": self.kept.state_dict()}
        torch.save(state if self.kept.weights is None else {**state, "weights": training}, folder / TRAINER)
        described = {
            "config": dict(self.config),
            "seed": self.assignment.seed,
            "spec": asdict(self.spec),
            "task": self.tuned,
        }
        (folder / TRIAL).write_text(json.dumps(described, indent=1))
        seal(folder)

    def load(self, folder: Path) -> None:
        """Read a checkpoint."""
        state = torch.load(folder / TRAINER, weights_only=True)
        weights = load_file(folder / WEIGHTS)
        training = state.get("weights")
        self.method.load_trainable_state_dict(weights if training is None else training)
        self.trainer.load_state_dict(state)
        self.kept.load_state_dict(state["kept"], None if training is None else weights)
        self.tuned = _task_in(folder)

    def load_weights(self, folder: Path) -> None:
        """Read a checkpoint's trained weights and tuned task; the state of training is not needed."""
        self.method.load_trainable_state_dict(load_file(folder / WEIGHTS))
        self.tuned = _task_in(folder)

    def _task(self) -> Task:
        """Return the task as tuned to the outputs on validation."""
        if self.tuned is None and self.bench.task.tunes:
            return read_task(self._validate().task)
        return self.bench.task if self.tuned is None else read_task(self.tuned)

    def _validate(self) -> Evaluation:
        return self.trainer.evaluate(self.validation, self.tick)

    def _build(self) -> FusionMethod:
        name, fields = split_config(self.config)
        context = self.bench.context(self.setting)
        torch.manual_seed(short_seed(self.assignment.seed))
        method = build_method(name, fields, context)
        if self.inherited is not None:
            supernet = self.inherited.supernet(context)
            method.load_trainable_state_dict(supernet.subnet_state_dict(fields, method))
        return method


def _task_in(folder: Path) -> dict[str, Any] | None:
    """Return the tuned task of a checkpoint; None if it is of no epoch."""
    task: dict[str, Any] | None = json.loads((folder / TRIAL).read_text())["task"]
    return task


def evaluate_on_test(spec: TrialSpec, assignment: Assignment, tick: Tick) -> Evaluation:
    """Evaluate a trial on the test split, with the weights of its checkpoint.

    Args:
        spec: Settings that all trials share.
        assignment: The trial; it has a checkpoint.
        tick: Called as work proceeds.

    Raises:
        DamagedError: If the weights or the task are not what was written.
    """
    run = TrialRun(spec, assignment, tick=tick)
    assert assignment.checkpoint is not None
    with assignment.checkpoint.as_directory() as folder:
        check(Path(folder), [WEIGHTS, TRIAL], tick)
        run.load_weights(Path(folder))
    return run.score()
