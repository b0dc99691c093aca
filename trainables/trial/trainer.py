"""The training loop: plain PyTorch, one epoch at a time."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from trainables.data.loader import Loader
from trainables.memory.measuring import StepMeter
from trainables.methods import FusionMethod
from trainables.progress import Tick, no_tick
from trainables.seeds import derive_seed
from trainables.step import Recipe, TrainingSetting
from trainables.tasks import Task
from trainables.trial.outputs import Evaluation, compact

#: Number of parts of a step whose samples are evaluated at once on a CPU, from the output of frozen layers.
PARTS_AT_ONCE = 4


class DivergedError(RuntimeError):
    """Raised when the loss or a metric is infinite or not a number."""


class _StepClock:
    """Measures the time from the end of one step to the end of the next, without delaying the steps.

    On a GPU, which lags behind the program, CUDA events record the end of each step.

    Args:
        device: The device on which the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.tick()

    def tick(self) -> None:
        """Record the end of a step, or the start of the first one."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def median(self) -> float:
        """Return the median time of the steps so far, in seconds.

        The median ignores the few slow steps: the first one, the one whose memory is measured, and those
        during which another trial used the processor.
        """
        if self._events:
            self._events[-1].synchronize()
            steps = [a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(self._events)]
        else:
            steps = [b - a for a, b in itertools.pairwise(self._times)]
        return statistics.median(steps)


class ScheduledTraining:
    """The state of training beside the model: optimizer, schedule of the learning rate and number of epochs.

    Args:
        method: The method that trains.
        setting: Optimizer, precision and so on.
        recipe: Schedule and so on.
        learning_rate: Peak learning rate.
        steps: Number of planned steps.
        epochs: Number of planned epochs.
    """

    def __init__(
        self,
        method: FusionMethod,
        setting: TrainingSetting,
        recipe: Recipe,
        learning_rate: float,
        steps: int,
        epochs: int,
    ) -> None:
        self.setting = setting
        self.recipe = recipe
        self.epoch = 0
        self.optimizer = setting.make_optimizer(method, learning_rate, recipe.head_learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: recipe.share(step, steps, epochs)
        )

    def finish_epoch(self, train_loss: float) -> None:
        """Count a finished epoch.

        Args:
            train_loss: Mean loss of the epoch.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self.epoch += 1
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss became {train_loss} in epoch {self.epoch}")

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume training, except the trained weights."""
        return {
            "epoch": self.epoch,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that ``state_dict`` has returned."""
        self.epoch = state["epoch"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


class Trainer(ScheduledTraining):
    """Trains a method's trainable parameters.

    Args:
        method: The method, on its device.
        setting: Optimizer, precision and so on.
        recipe: Schedule and so on.
        learning_rate: Peak learning rate.
        epochs: Number of planned passes over the training split.
        train: The training split.
        seed: Seed of the order of the samples, of both kinds of dropout and of augmentation.
        task: The task.

    Attributes:
        meter: Measures the memory of the steps.
    """

    def __init__(
        self,
        method: FusionMethod,
        setting: TrainingSetting,
        recipe: Recipe,
        learning_rate: float,
        epochs: int,
        train: Loader,
        seed: int,
        task: Task,
    ) -> None:
        super().__init__(method, setting, recipe, learning_rate, epochs * len(train), epochs)
        self.method = method
        self.train_loader = train
        self.seed = seed
        self.task = task
        self.meter = StepMeter(train.device, setting.batch_size)

    def train_epoch(self, tick: Tick = no_tick) -> dict[str, float]:
        """Train for one epoch.

        Args:
            tick: Called after each step.

        Returns:
            ``train_loss``, the mean over samples; ``step_time``, the median over steps in seconds, including
            the time to load a batch; ``epoch_seconds``.

        Raises:
            DivergedError: If a loss is not finite.
        """
        started = time.perf_counter()
        # A resumed epoch gets the same dropout as an uninterrupted one.
        torch.manual_seed(derive_seed(self.seed, "dropout", self.epoch))
        self.method.train()
        total = torch.zeros((), dtype=torch.float64)
        seen = 0
        clock = _StepClock(self.train_loader.device)
        seed, dropout = derive_seed(self.seed, "rows", self.epoch), self.recipe.modality_dropout
        for batch in self.train_loader.shuffled(seed, dropout):
            loss = self.meter.step(
                self.method, batch.inputs, batch.labels, self.task, self.setting, self.optimizer
            )
            self.schedule.step()
            total = total.to(loss.device) + loss * len(batch.labels)
            seen += len(batch.labels)
            clock.tick()
            tick()
        train_loss = total.item() / seen
        self.finish_epoch(train_loss)
        return {
            "train_loss": train_loss,
            "step_time": clock.median(),
            "epoch_seconds": time.perf_counter() - started,
        }

    def evaluate(self, loader: Loader, tick: Tick = no_tick, tuned: Task | None = None) -> Evaluation:
        """Return the task's metrics on a split, and what to keep of the outputs.

        Args:
            loader: The split.
            tick: Called after each batch.
            tuned: The task as tuned to the outputs on validation; None if ``loader`` is that split.

        Raises:
            DivergedError: If a metric is not finite.
        """
        outputs, labels = self.outputs(loader, tick)
        kept = self.task.kept(outputs, labels)
        task = self.task.tuned(kept, labels) if tuned is None else tuned
        metrics = task.score(kept, labels)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"the {loader.split.name} {name} became {value} in epoch {self.epoch}")
        return Evaluation(metrics, compact(kept), task.to_dict())

    def outputs(self, loader: Loader, tick: Tick = no_tick) -> tuple[Tensor, Tensor]:
        """Return the method's outputs (N, D) for a split, without dropout, and the labels.

        Args:
            loader: The split.
            tick: Called after each batch.
        """
        self.method.eval()
        outputs, labels = [], []
        with torch.inference_mode():
            for batch in loader.in_order(self._evaluated_at_once(loader)):
                with self.setting.autocast(batch.labels.device):
                    outputs.append(self.method(batch.inputs).outputs.float().cpu())
                labels.append(batch.labels.cpu())
                tick()
        return torch.cat(outputs), torch.cat(labels)

    def _evaluated_at_once(self, loader: Loader) -> int:
        """Return the number of samples of an evaluation's batches."""
        # A part of a step never needs more memory without gradients than with them. More samples at once are
        # faster. Without the frozen layers their memory is little: not much more than that of their inputs,
        # which the margin of a process on a CPU covers. A GPU has no such margin.
        rows = self.setting.batch_size // self.setting.gradient_accumulation
        cached = set(loader.features) == set(self.method.prefix_layers())
        return rows * PARTS_AT_ONCE if cached and loader.device.type == "cpu" else rows
