"""The training loop of a supernet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.data.loader import Batch
from trainables.elastic import Supernet
from trainables.methods import FusionMethod
from trainables.progress import Tick, no_tick
from trainables.seeds import derive_seed
from trainables.step import Recipe, TrainingSetting
from trainables.supernet.plan import ALONE, SupernetPlan, Worker
from trainables.supernet.step import Config, Replica, supernet_step
from trainables.tasks import Task
from trainables.trial.trainer import ScheduledTraining

#: Function that loads rows of a split for a subnet. Its last argument is a generator for random changes.
Load = Callable[[FusionMethod, Tensor, torch.Generator | None], Batch]


#: Share of all steps over which the learning rate rises to its peak. Deep subnets diverge in the first steps
#: at a learning rate that suits shallow ones.
WARM_UP = 0.2


class SupernetTrainer(ScheduledTraining):
    """Trains a supernet's weights. The learning rate first rises, then falls.

    Several workers train on shares of the same batches. Their number changes the order of summation and the
    random numbers of dropout and augmentation. It changes the loss only if the task has a query: the wrong
    pairs of a worker's rows are among its own rows.

    Args:
        supernet: The supernet, on its device.
        setting: Optimizer, precision and so on. ``batch_size`` is the total of all workers.
        recipe: Schedule and so on. The learning rate rises over at least ``WARM_UP`` of the steps.
        plan: Learning rate, number of passes over the training split, subnets and seed.
        rows: Number of rows of the training split.
        load: Loads some of the rows for a subnet.
        task: The task.
        worker: Which of the workers this is.
    """

    def __init__(
        self,
        supernet: Supernet,
        setting: TrainingSetting,
        recipe: Recipe,
        plan: SupernetPlan,
        rows: int,
        load: Load,
        task: Task,
        worker: Worker = ALONE,
    ) -> None:
        steps = plan.epochs * -(-rows // setting.batch_size)
        recipe = replace(recipe, warm_up=max(recipe.warm_up, WARM_UP))
        super().__init__(supernet.largest, setting, recipe, plan.learning_rate, steps, plan.epochs)
        self.supernet = supernet
        self.plan = plan
        self.rows = rows
        self.load = load
        self.task = task
        self.worker = worker
        self.replica: nn.Module = Replica(supernet)
        if worker.wrap is not None:
            self.replica = worker.wrap(self.replica)

    def train_epoch(self, tick: Tick = no_tick) -> dict[str, float]:
        """Train for one epoch.

        Args:
            tick: Called after each step.

        Returns:
            ``train_loss``, the mean over this worker's rows and all trained subnets; ``epoch_seconds``.

        Raises:
            DivergedError: If a loss is not finite.
        """
        started = time.perf_counter()
        seed, epoch, curriculum = self.plan.seed, self.epoch, self.plan.curriculum
        rank, world = self.worker.rank, self.worker.world
        torch.manual_seed(derive_seed(seed, "dropout", epoch, rank))  # a resumed epoch gets the same
        self.supernet.train()
        total, seen = torch.zeros((), dtype=torch.float64), 0
        for step, rows in enumerate(self._batches(derive_seed(seed, "rows", epoch))):
            mine = rows[rank::world]
            if len(rows) < world:  # the last batch has fewer rows than there are workers
                continue
            configs = curriculum.subnets(seed, epoch, step)
            loss = supernet_step(
                self.replica,
                configs,
                self._loading(mine, derive_seed(seed, "augmentation", epoch, rank, step)),
                len(mine),
                self.task,
                self.setting,
                self.optimizer,
                distill=curriculum.distill,
                weight=len(mine) * world / len(rows),  # workers' gradients are averaged
            )
            self.schedule.step()
            total = total.to(loss.device) + loss * len(mine)
            seen += len(mine)
            tick()
        train_loss = total.item() / seen
        self.finish_epoch(train_loss)
        return {"train_loss": train_loss, "epoch_seconds": time.perf_counter() - started}

    def _batches(self, seed: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        yield from torch.randperm(self.rows, generator=generator).split(self.setting.batch_size)

    def _loading(self, rows: Tensor, seed: int) -> Callable[[Config, slice], Batch]:
        def load(config: Config, some: slice) -> Batch:
            # All subnets of a step see the same augmented images
            generator = torch.Generator().manual_seed(derive_seed(seed, some.start))
            return self.load(self.supernet.shell(config), rows[some], generator)

        return load
