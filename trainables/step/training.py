"""One optimization step, for training and for memory prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from trainables.methods import FusionMethod
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import ModalityInput, Sequence, part


def forward_loss(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    task: Task,
    setting: TrainingSetting,
) -> Tensor:
    """Return the loss of a batch, with the method's auxiliary loss, ready for ``backward``."""
    with setting.autocast(labels.device):
        output = method(inputs)
    loss = training_loss(task, output.outputs, labels, setting)
    return loss if output.aux_loss is None else loss + output.aux_loss


def training_loss(task: Task, outputs: Tensor, labels: Tensor, setting: TrainingSetting) -> Tensor:
    """Return the loss that a step lowers, with the labels smoothed if the setting says so."""
    if setting.label_smoothing:
        return task.smoothed_loss(outputs, labels, setting.label_smoothing)
    return task.loss(outputs, labels)


def limit_gradient(optimizer: torch.optim.Optimizer, most: float | None, setting: TrainingSetting) -> None:
    """Shorten the gradient of all trained parameters to a norm of at most ``most``; None leaves it."""
    if most is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # Like the optimizer, all at once takes temporaries for each of them
        nn.utils.clip_grad_norm_(parameters, most, foreach=setting.optimizer_kernel != "single")


def training_step(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    task: Task,
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    after_forward: Callable[[], None] | None = None,
    most_parts: int | None = None,
) -> Tensor:
    """Run the forward pass, the backward pass and the optimizer step; free the gradients afterwards.

    With gradient accumulation the batch is run in parts. The loss of each part is weighted by its number of
    samples.

    Args:
        method: The method, in training mode.
        inputs: A batch, one entry per modality.
        labels: The batch's labels, shape (B,).
        task: The task, which computes the loss.
        setting: How the step is run.
        optimizer: Optimizer of the method's trained parameters.
        after_forward: Called after each forward pass, before its backward pass.
        most_parts: Maximum number of parts to run; None runs all. Two suffice to find the peak of memory,
            because all parts after the first need the same memory.

    Returns:
        The mean loss of the batch, detached from the graph.
    """
    total = torch.zeros((), device=labels.device)
    parts = _parts(inputs, labels, setting.gradient_accumulation)
    for some_inputs, some_labels in islice(parts, most_parts):
        loss = forward_loss(method, some_inputs, some_labels, task, setting)
        if len(some_labels) < len(labels):
            loss = loss * (len(some_labels) / len(labels))
        if after_forward is not None:
            after_forward()
        with part("backward pass"):
            loss.backward()
        total += loss.detach()
    with part("optimizer step"):
        limit_gradient(optimizer, setting.clip_norm, setting)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _parts(
    inputs: Mapping[str, ModalityInput], labels: Tensor, count: int
) -> Iterator[tuple[Mapping[str, ModalityInput], Tensor]]:
    """Split a batch into ``count`` parts of equal size; the last part may be smaller."""
    if count == 1:
        yield inputs, labels
        return
    size = -(-len(labels) // count)
    for first in range(0, len(labels), size):
        rows = slice(first, first + size)
        yield {m: _rows(given, rows) for m, given in inputs.items()}, labels[rows]


def _rows(given: ModalityInput, rows: slice) -> ModalityInput:
    if not isinstance(given, Sequence):
        return {name: tensor[rows] for name, tensor in given.items()}
    mask = None if given.mask is None else given.mask[rows]
    return replace(given, tokens=given.tokens[rows], mask=mask)
