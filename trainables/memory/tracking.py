"""One optimisation step, with every tensor that it makes on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.memory.optimizer import make_state
from trainables.memory.report import MemoryReport, report_of
from trainables.memory.storage_log import Holdings, StorageLog
from trainables.methods import FusionMethod
from trainables.step.setting import TrainingSetting
from trainables.step.training import training_step
from trainables.tasks import Task
from trainables.towers import ModalityInput, Sequence


def measure_memory(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    setting: TrainingSetting,
    task: Task,
) -> MemoryReport:
    """Track one optimisation step of a built method, on whatever tensors it is given.

    The optimiser's state exists before the step, as in every step but the first; the method's weights are
    changed by a step of learning rate 0.

    Args:
        method: The method, with weights.
        inputs: A batch, one entry a modality.
        labels: Its labels, shape (B,).
        setting: Optimiser, precision and so on.
        task: For the loss.
    """
    optimizer = setting.make_optimizer(method.trainable_parameters(), learning_rate=0.0)
    make_state(optimizer)
    method.train()
    held, _ = track_step(method, inputs, labels, setting, optimizer, task)
    return report_of(method, held)


def track_step(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    task: Task,
    log: StorageLog | None = None,
    most_parts: int | None = None,
) -> tuple[Holdings, Tensor]:
    """Take one optimisation step; return what is held at its peak, and the mean loss.

    Args:
        method: The method, in training mode.
        inputs: A batch, one entry a modality.
        labels: Its labels, shape (B,).
        setting: How the step is run.
        optimizer: The optimiser; it has its state already.
        task: For the loss.
        log: A log of this step alone; None makes one.
        most_parts: See ``training_step``.
    """
    log = log or StorageLog()

    def step(after_forward: Callable[[], None]) -> Tensor:
        return training_step(method, inputs, labels, task, setting, optimizer, after_forward, most_parts)

    return track(method, [labels, *_tensors(inputs)], setting, optimizer, step, log)


def track(
    method: FusionMethod,
    batch: Iterable[Tensor],
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    step: Callable[[Callable[[], None]], Tensor],
    log: StorageLog,
) -> tuple[Holdings, Tensor]:
    """Run a step of a method's weights and log it; return what is held at its peak, and the mean loss.

    Args:
        method: The method, in training mode.
        batch: The tensors of the batch, as far as they exist before the step.
        setting: How the step is run.
        optimizer: The optimizer; it has its state already.
        step: Takes the step. It is given what to call when a forward pass is done and its backward pass is
            not.
        log: A log of this step alone.
    """
    owned = list(owned_tensors(method))
    owners = {id(tensor): owner for owner, tensor in owned}

    def note_gradient(parameter: Tensor) -> None:
        log.note("gradients", _tensors(parameter.grad), owners[id(parameter)])

    hooks = [p.register_post_accumulate_grad_hook(note_gradient) for p in method.trainable_parameters()]
    away = method.prefix_modules() if setting.prefix == "offloaded" else []
    absent = {id(tensor) for module in away for tensor in (*module.parameters(), *module.buffers())}
    try:
        with log:
            for owner, tensor in owned:
                if id(tensor) not in absent:
                    log.note("weights", [tensor], owner)
                log.note("optimizer", _tensors(optimizer.state.get(tensor, {})), owner)
            log.note("activations", batch, "inputs")
            loss = step(lambda: log.note_live("activations"))
    finally:
        for hook in hooks:
            hook.remove()
    return log.peak(), loss


def owned_tensors(method: FusionMethod) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer once, with the part of the model that it belongs to."""
    seen: set[int] = set()
    modules: list[tuple[str, nn.Module]] = []
    for modality in method.modalities:
        tower = method.tower(modality)
        embedding = tower.prefix_modules(0)
        modules += [(f"{modality} embedding", module) for module in embedding]
        modules += [(f"{modality} layer {i}", layer) for i, layer in enumerate(tower.layers)]
        modules += [(f"{modality} output", tower)]
    modules += [(name, module) for name, module in method.named_children() if name != "towers"]
    for owner, module in [*modules, ("fusion", method)]:
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield owner, tensor


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings and token sequences."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, Sequence):
        yield tree.tokens
        if tree.mask is not None:
            yield tree.mask
