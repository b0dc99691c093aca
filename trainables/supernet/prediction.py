"""Prediction of the memory that training a supernet takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.data import Batch
from trainables.elastic import Supernet
from trainables.memory.predictor import MemoryPredictor
from trainables.memory.report import MemoryReport
from trainables.memory.storage_log import Holdings, StorageLog
from trainables.memory.target import report_on_target
from trainables.memory.tracking import track, weights_on_device
from trainables.methods import get_method
from trainables.step.setting import TrainingSetting
from trainables.supernet.step import Curriculum, Replica, supernet_step
from trainables.tasks import Task
from trainables.towers import ModalityInput


def predict_supernet(predictor: MemoryPredictor, method: str, curriculum: Curriculum) -> MemoryReport:
    """Return the memory of training a supernet: the peak of the heaviest step that may be drawn.

    Each of several workers takes this much, and in addition the memory to share gradients.

    Args:
        predictor: A predictor for the encoders, the task and the setting.
        method: Name of a registered method.
        curriculum: The subnets that steps train; their configurations are the method's own fields.
    """
    heaviest = curriculum.heaviest
    module = get_method(method).method.__module__
    key = json.dumps([method, module, "supernet", heaviest, curriculum.distill], sort_keys=True)
    return predictor.remembered(key, lambda: _run(predictor, method, curriculum))


def _run(predictor: MemoryPredictor, method: str, curriculum: Curriculum) -> MemoryReport:
    setting = predictor.setting
    with predictor.faking():
        supernet = Supernet(predictor.context(), method, curriculum.largest)
        supernet.train()
        optimizer = predictor.optimizer(supernet.largest)
        for subnet in curriculum.heaviest:
            supernet.shell(subnet)

        def load(config: Mapping[str, Any], rows: slice) -> Batch:
            model = supernet.shell(config)
            count = min(rows.stop, setting.batch_size) - rows.start
            inputs: dict[str, ModalityInput] = {}
            for m in model.modalities:
                if setting.prefix != "computed" and m in model.prefix_layers():
                    inputs[m] = predictor.encoded(m)[model.prefix_layers()[m]].cached(count)
                else:
                    inputs[m] = model.tower(m).example_inputs(count, setting.sizes)
            inputs |= model.example_presence(count)
            return Batch(inputs, predictor.task.example_labels(count))

        log = predictor.log()
        held, _ = track_supernet_step(
            supernet,
            curriculum.heaviest,
            load,
            setting,
            optimizer,
            predictor.task,
            distill=curriculum.distill,
            log=log,
        )
        return report_on_target(supernet.largest, held, log, predictor.setting)


def track_supernet_step(
    supernet: Supernet,
    configs: Sequence[Mapping[str, Any]],
    load: Callable[[Mapping[str, Any], slice], Batch],
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    task: Task,
    *,
    distill: bool = False,
    log: StorageLog | None = None,
) -> tuple[Holdings, Tensor]:
    """Run one step of a supernet; return the bytes held at its peak, and the mean loss.

    Args:
        supernet: The supernet, in training mode.
        configs: The subnets that the step trains.
        load: See ``supernet_step``.
        setting: How the step is run.
        optimizer: Optimizer of the supernet's trained weights, which already has its state.
        task: The task, which computes the loss.
        distill: See ``supernet_step``.
        log: An empty log; None makes one.
    """

    def step(after_forward: Callable[[], None]) -> Tensor:
        return supernet_step(
            Replica(supernet),
            configs,
            load,
            setting.batch_size,
            task,
            setting,
            optimizer,
            distill=distill,
            after_forward=after_forward,
        )

    weights = weights_on_device(supernet.largest, setting)
    return track(weights, [], optimizer, step, log or StorageLog())
