"""Tracking of all tensors of one optimization step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    """Return the memory of one optimization step of a built method.

    The optimizer's state exists before the step, as in every step but the first. The learning rate is 0.

    Args:
        method: The method, with weights.
        inputs: A batch, one entry per modality.
        labels: The batch's labels, shape (B,).
        setting: Optimizer, precision and so on.
        task: The task, which computes the loss.
    """
    optimizer = setting.make_optimizer(method, learning_rate=0.0)
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
    """Run one optimization step; return the bytes held at its peak, and the mean loss.

    Args:
        method: The method, in training mode.
        inputs: A batch, one entry per modality.
        labels: The batch's labels, shape (B,).
        setting: How the step is run.
        optimizer: The optimizer, which already has its state.
        task: The task, which computes the loss.
        log: An empty log; None makes one.
        most_parts: See ``training_step``.
    """
    log = log or StorageLog()

    def step(after_forward: Callable[[], None]) -> Tensor:
        return training_step(method, inputs, labels, task, setting, optimizer, after_forward, most_parts)

    weights = weights_on_device(method, setting)
    return track(weights, [*tensors_in(inputs), labels], optimizer, step, log)


def track(
    weights: Iterable[tuple[str | None, Tensor]],
    batch: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    step: Callable[[Callable[[], None]], Tensor],
    log: StorageLog,
) -> tuple[Holdings, Tensor]:
    """Run and log a step that trains any model; return the bytes held at its peak, and the loss.

    Args:
        weights: The parameters and buffers that are on the device, each once, with the part of the model to
            which they belong.
        batch: Those tensors of the batch that exist before the step.
        optimizer: The optimizer, which already has its state.
        step: Runs the step and returns the loss. Its argument is a function that it must call after each
            forward pass, before the backward pass.
        log: An empty log.
    """
    weights = list(weights)
    owners = {id(tensor): owner for owner, tensor in weights}

    def note_gradient(parameter: Tensor) -> None:
        log.note("gradients", tensors_in(parameter.grad), owners[id(parameter)])

    trained = [tensor for _, tensor in weights if tensor.requires_grad]
    hooks = [parameter.register_post_accumulate_grad_hook(note_gradient) for parameter in trained]
    hooks.append(optimizer.register_step_pre_hook(lambda *_: log.begin_update()))
    try:
        with log:
            for owner, tensor in weights:
                log.note("weights", [tensor], owner)
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                log.note(
                    "optimizer", tensors_in(optimizer.state.get(parameter, {})), owners.get(id(parameter))
                )
            log.note("activations", batch, "inputs")
            log.begin()
            loss = step(lambda: log.note_live("activations"))
    finally:
        for hook in hooks:
            hook.remove()
    return log.peak(), loss


def track_forward(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    setting: TrainingSetting,
    log: StorageLog | None = None,
) -> Holdings:
    """Run a method on a batch without gradient, and return the bytes held at the peak.

    Args:
        method: The method. It is put into evaluation mode.
        inputs: A batch, one entry per modality.
        setting: How the method is run.
        log: An empty log; None makes one.
    """
    device = next(method.parameters()).device
    method.eval()

    def forward() -> None:
        with inferring(setting, device):
            method(inputs)

    return track_inference(
        weights_on_device(method, setting), tensors_in(inputs), forward, log or StorageLog()
    )


def track_inference(
    weights: Iterable[tuple[str | None, Tensor]],
    batch: Iterable[Tensor],
    forward: Callable[[], None],
    log: StorageLog,
) -> Holdings:
    """Run and log a forward pass of any model; return the bytes held at its peak.

    Args:
        weights: See ``track``.
        batch: See ``track``.
        forward: Runs the forward pass, while ``inferring``.
        log: An empty log.
    """
    with log:
        for owner, tensor in weights:
            log.note("weights", [tensor], owner)
        log.note("activations", batch, "inputs")
        log.begin()
        forward()
    return log.peak()


@contextmanager
def inferring(setting: TrainingSetting, device: torch.device) -> Iterator[None]:
    """Let operators allocate what they do in ``torch.inference_mode``.

    That mode itself would hide from a log the operators that others are composed of. In it, autocast keeps no
    copies of weights. Source: ``cached_cast`` in aten/src/ATen/autocast_mode.cpp.
    """
    with torch.no_grad(), setting.autocast(device, cached=False):
        yield


def weights_on_device(method: FusionMethod, setting: TrainingSetting) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers that are on the device during a step; see ``owned_tensors``."""
    away = method.prefix_modules() if setting.prefix == "offloaded" else []
    absent = {id(tensor) for module in away for tensor in (*module.parameters(), *module.buffers())}
    return ((owner, tensor) for owner, tensor in owned_tensors(method) if id(tensor) not in absent)


def owned_tensors(method: FusionMethod) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer once, with the part of the model to which it belongs."""
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


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested mappings and token sequences."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_in(value)
    elif isinstance(tree, Sequence):
        yield tree.tokens
        if tree.mask is not None:
            yield tree.mask
