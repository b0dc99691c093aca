"""The training of a supernet on a search's data, in plain PyTorch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from trainables.data import Batch, Loader
from trainables.elastic import Supernet, SupernetWeights
from trainables.memory.measuring import reset_peak, since_reset
from trainables.methods import FusionMethod
from trainables.progress import Tick, no_tick
from trainables.seeds import short_seed
from trainables.supernet.evaluation import SubnetEvaluator
from trainables.supernet.plan import ALONE, SupernetPlan, Worker
from trainables.supernet.trainer import SupernetTrainer
from trainables.trial.checkpoint import TRAINER, seal
from trainables.trial.head_start import start_head
from trainables.trial.workbench import TrialSpec, Workbench


class SupernetRun:
    """The training of a supernet in one worker.

    Args:
        spec: Settings that all trials share. Its ``epochs`` is not used; the plan has its own.
        plan: How the supernet is trained.
        device: The device on which it is trained.
        worker: Which of the workers it is.
        threads: Number of CPU threads of this worker.
        tick: Called as building proceeds, and after each step and each batch of an evaluation.
    """

    def __init__(
        self,
        spec: TrialSpec,
        plan: SupernetPlan,
        device: torch.device,
        *,
        worker: Worker = ALONE,
        threads: int = 1,
        tick: Tick = no_tick,
    ) -> None:
        self.tick = tick
        self.bench = Workbench(spec, device, threads, tick)
        self.setting = spec.setting.as_run(cached=spec.feature_cache > 0)
        self.device = device
        context = self.bench.context(self.setting)
        torch.manual_seed(short_seed(plan.seed))
        self.supernet = Supernet(context, plan.method, plan.curriculum.largest).to(device)
        self._loaders: dict[str, Loader] = {}
        rows = len(self.bench.data.split("train"))
        self.trainer = SupernetTrainer(
            self.supernet, self.setting, spec.recipe, plan, rows, self._load, self.bench.task, worker
        )

    def epoch(self) -> dict[str, float]:
        """Train one epoch and evaluate the followed subnet on the validation split.

        Returns:
            The task's metrics, ``epoch``, ``train_loss``, ``epoch_seconds``, ``validation_seconds`` and, on a
            GPU, ``measured_memory``, the peak GiB held by tensors.
        """
        if not self.trainer.epoch:
            self.start()
        reset_peak(self.device)
        result = self.trainer.train_epoch(self.tick)
        result |= since_reset(self.device)
        started = time.perf_counter()
        result |= self._evaluator("validation").evaluate(self.trainer.plan.followed, self.tick)
        return {
            **result,
            "validation_seconds": time.perf_counter() - started,
            "epoch": self.trainer.epoch,
        }

    def start(self) -> None:
        """Start the head from the probe if the recipe says so: that of the subnet that the plan follows."""
        if self.bench.spec.recipe.head_start != "probe":
            return
        plan = self.trainer.plan

        def labels(split: str) -> Tensor:
            return self._evaluator(split).outputs(plan.followed, self.tick)[1]

        start_head(self.supernet.shell(plan.followed), self.bench.task, labels, plan.seed, self.tick)
        if self.trainer.worker.world > 1:  # workers may differ in the last bits
            for weight in self.supernet.largest.parameters():
                if weight.requires_grad:
                    torch.distributed.broadcast(weight.data, 0)

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the weights, and the state to resume training.

        Args:
            folder: An empty folder.
        """
        self.supernet.weights.save(folder)
        torch.save(self.trainer.state_dict(), folder / TRAINER)
        seal(folder)

    def load(self, folder: Path) -> None:
        """Read a checkpoint."""
        state = SupernetWeights.load(folder).state
        self.supernet.largest.load_trainable_state_dict(state)
        self.trainer.load_state_dict(torch.load(folder / TRAINER, weights_only=True))

    def _evaluator(self, split: str) -> SubnetEvaluator:
        """Return what evaluates one subnet, on as many rows at once as a part of this worker's step has."""
        rows = self.setting.batch_size // self.trainer.worker.world // self.setting.gradient_accumulation
        return SubnetEvaluator(self.bench, self.setting, self.supernet, split=split, rows=rows, states=0)

    def _load(self, method: FusionMethod, rows: Tensor, generator: torch.Generator | None) -> Batch:
        """Load rows for a subnet, with the cached output of its frozen prefix if there is one."""
        key = json.dumps(method.prefix_layers())
        if key not in self._loaders:
            self._loaders[key] = self.bench.loader("train", method, self.setting)
            method.train(method.training)  # filling the cache has put the encoders in evaluation mode
        return self._loaders[key].batch(rows, generator, self.bench.spec.recipe.modality_dropout)
