"""Evaluation of many subnets of a supernet, with shared computations done once."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainables.data import Loader
from trainables.elastic import Supernet
from trainables.methods import FusionMethod, FusionOutput
from trainables.progress import Tick, no_tick
from trainables.step.setting import TrainingSetting
from trainables.towers import Sequence
from trainables.trial.workbench import Workbench

#: For each batch of a split, the sequence of each modality.
Sequences = list[dict[str, Sequence]]


class SubnetEvaluator:
    """Evaluates subnets with the weights that they inherit.

    The output of the frozen prefix comes from the cache that training has filled. If the method divides its
    forward pass into stages, the output of stages is kept. A subnet with the same lower stages as an earlier
    one starts from that output. If subnets with equal stages are evaluated one after the other, each shared
    stage is run once.

    Args:
        bench: Data and encoders.
        setting: How subnets are run.
        supernet: The supernet, whose weights must not change.
        split: The split to evaluate on.
        rows: Number of rows of a batch; None takes as many as a part of a step has.
        precision: Precision of the subnets as in ``TrainingSetting``; None takes the setting's.
        states: Maximum bytes of stage outputs that are kept.

    Attributes:
        stages_run: Number of stages that were run.
        stages_shared: Number of stages that were skipped because their output was kept.
    """

    def __init__(
        self,
        bench: Workbench,
        setting: TrainingSetting,
        supernet: Supernet,
        *,
        split: str = "validation",
        rows: int | None = None,
        precision: str | None = None,
        states: int = 2**30,
    ) -> None:
        self.bench = bench
        self.setting = setting
        self.supernet = supernet
        self.split = split
        # Batches have as many rows as a part of a step, so that they need no more memory than a step
        self._rows = rows or setting.batch_size // setting.gradient_accumulation
        self._running = replace(setting, precision=precision or setting.precision)
        self.task = bench.task
        self.stages_run = self.stages_shared = 0
        self._limit = states
        self._held = 0
        self._states: OrderedDict[Hashable, Sequences] = OrderedDict()
        self._loaders: dict[str, Loader] = {}

    def evaluate(self, config: Mapping[str, Any], tick: Tick = no_tick) -> dict[str, float]:
        """Return the task's metrics for a subnet. If its outputs are not finite, neither are the metrics.

        Args:
            config: The method's own fields.
            tick: Called after each batch.
        """
        outputs, labels = self.outputs(config, tick)
        kept = self.task.kept(outputs, labels)
        return self.task.tuned(kept, labels).score(kept, labels)

    def outputs(self, config: Mapping[str, Any], tick: Tick = no_tick) -> tuple[Tensor, Tensor]:
        """Return a subnet's outputs (N, D) for the split, without dropout, and the labels.

        Args:
            config: The method's own fields.
            tick: Called after each batch.
        """
        self.supernet.eval()
        model = self.supernet.bound(config)
        loader = self._loader(model)
        outputs = []
        with torch.inference_mode():
            for output in self._outputs(model, loader):
                outputs.append(output.outputs.float().cpu())
                tick()
        return torch.cat(outputs), loader.split.labels

    def _outputs(self, model: FusionMethod, loader: Loader) -> Iterator[FusionOutput]:
        """Yield the model's output for each batch."""
        # Stages get the modalities' sequences only
        stages = () if model.uses_presence else model.stages()
        if not stages:
            for batch in loader.in_order():
                with self._running.autocast(self.bench.device):
                    yield model(batch.inputs)
            return
        root = json.dumps(model.untouched_layers())
        path = [(root, *(stage.key for stage in stages[:length])) for length in range(len(stages) + 1)]
        # The output of the last stage is not kept: no other subnet starts from it.
        known = max((n for n in range(1, len(stages)) if path[n] in self._states), default=0)
        start = self._states.get(path[known])
        kept: dict[int, Sequences] = {}
        if self._limit:
            kept = {number: [] for number in range(known + 1, len(stages))}
        for index, batch in enumerate(loader.in_order()):
            with self._running.autocast(self.bench.device):
                sequences = start[index] if start else model.untouched(batch.inputs)
                for number, stage in enumerate(stages[known:], start=known + 1):
                    sequences = stage.run(sequences)
                    if number in kept:
                        kept[number].append(sequences)
                output = model.conclude(sequences)
            yield output
        if known:
            self._states.move_to_end(path[known])
        for number, found in kept.items():
            self._keep(path[number], found)
        self.stages_run += len(stages) - known
        self.stages_shared += known

    def _keep(self, path: Hashable, sequences: Sequences) -> None:
        self._states[path] = sequences
        self._held += _bytes(sequences)
        while self._held > self._limit:
            _, oldest = self._states.popitem(last=False)
            self._held -= _bytes(oldest)

    def _loader(self, model: FusionMethod) -> Loader:
        key = json.dumps(model.prefix_layers())
        if key not in self._loaders:
            self._loaders[key] = self.bench.loader(self.split, model, self.setting, self._rows)
        return self._loaders[key]


def _bytes(sequences: Sequences) -> int:
    return sum(s.tokens.nbytes for of_batch in sequences for s in of_batch.values())
