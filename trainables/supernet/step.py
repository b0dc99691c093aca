"""One optimisation step of a supernet, as training takes it and memory prediction runs it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainables.data.loader import Batch
from trainables.elastic import Supernet
from trainables.errors import UserError, unknown
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import part

#: Largest norm of a step's gradient. Deep and shallow subnets share one learning rate, and a few steps of
#: deep ones at a rate that suits shallow ones are enough to undo what these have learnt.
MAX_GRADIENT_NORM = 1.0

#: uniform: one random subnet a step; sandwich: the largest, the smallest and a random one.
PATHS = ("uniform", "sandwich")

Config = Mapping[str, Any]


def check_paths(paths: str, *, distill: bool) -> None:
    """Check which subnets steps are to train.

    Raises:
        UserError: If there are no such paths, or nothing to distil from.
    """
    if paths not in PATHS:
        raise unknown("paths", paths, PATHS)
    if distill and paths != "sandwich":
        raise UserError("--distill: needs --paths sandwich, to have a largest subnet to learn from")


@dataclass(frozen=True)
class Curriculum:
    """Which subnets each step trains.

    Attributes:
        paths: ``uniform`` (Chen et al. 2021, AutoFormer, Sec. 3.3) or ``sandwich`` (Yu and Huang 2019,
            Universally slimmable networks, Sec. 3.2).
        distill: With ``sandwich``: all but the largest subnet learn the largest one's output instead of the
            labels (the same, Sec. 3.3; Yu et al. 2020, BigNAS).
        largest: The largest subnet.
        smallest: The smallest one.
        draw: Draws one.

    Raises:
        UserError: If there are no such paths, or nothing to distil from.
    """

    paths: str
    distill: bool
    largest: Config
    smallest: Config
    draw: Callable[[random.Random], Config]

    def __post_init__(self) -> None:
        check_paths(self.paths, distill=self.distill)

    def subnets(self, seed: int, epoch: int, step: int) -> list[Config]:
        """Return the subnets of a step, which are the same for every worker."""
        drawn = self.draw(random.Random(f"{seed}/{epoch}/{step}"))
        return [drawn] if self.paths == "uniform" else [self.largest, self.smallest, drawn]

    @property
    def heaviest(self) -> list[Config]:
        """The subnets of the step that takes most memory."""
        return [self.largest] if self.paths == "uniform" else [self.largest, self.smallest, self.largest]


class Replica(nn.Module):
    """A supernet as ``DistributedDataParallel`` wraps it: every trained weight takes part in every step.

    Weights that a subnet does not have get a gradient of zero, as rows that it leaves out of a weight do.
    """

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.supernet = supernet

    def forward(self, config: Config, batch: Any) -> tuple[Tensor, Tensor | None]:
        """Return a subnet's outputs (B, D) and its auxiliary loss, if it has one."""
        output = self.supernet(config, batch)
        nothing = sum(weight.sum() for weight in self.supernet.largest.trainable_parameters()) * 0
        return output.outputs + nothing, output.aux_loss


def supernet_step(
    replica: nn.Module,
    configs: Sequence[Config],
    load: Callable[[Config, slice], Batch],
    rows: int,
    task: Task,
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    *,
    distill: bool = False,
    weight: float = 1.0,
    after_forward: Callable[[], None] | None = None,
) -> Tensor:
    """Forward and backward for some subnets on the same rows, then one optimiser step.

    Gradients are of the mean over subnets of their mean losses, cut to ``MAX_GRADIENT_NORM``. Weights that
    none of the subnets has stay as they are, the optimiser's moments included: with gradients of zero, Adam
    would go on moving the weights of rare layers, and further the rarer they are. With gradient accumulation
    the rows are run in parts.

    Args:
        replica: A ``Replica``, or one that is wrapped to share gradients with other workers.
        configs: The subnets; with ``distill`` the largest first.
        load: Returns some of the rows as a batch for a subnet.
        rows: How many rows there are.
        task: For the loss.
        setting: How the step is run.
        optimizer: Of the supernet's trained weights.
        distill: Whether all but the first subnet learn the first one's output.
        weight: What the loss counts, compared with other workers'.
        after_forward: Called when a forward pass is done and its backward pass is not.

    Returns:
        The mean loss over subnets and rows, without gradient.
    """
    total = torch.zeros(())
    size = -(-rows // setting.gradient_accumulation)
    starts = range(0, rows, size)
    for first in starts:
        taught: Tensor | None = None
        for number, config in enumerate(configs):
            batch = load(config, slice(first, first + size))
            final = first == starts[-1] and number == len(configs) - 1
            with _alone(replica, alone=not final):
                with setting.autocast(batch.labels.device):
                    outputs, aux_loss = replica(config, batch.inputs)
                if taught is None:
                    loss = task.loss(outputs, batch.labels)
                else:
                    loss = task.distillation(outputs, taught)
                if distill and taught is None:
                    taught = task.teaching(outputs)
                if aux_loss is not None:
                    loss = loss + aux_loss
                loss = loss * (len(batch.labels) / rows / len(configs))
                if after_forward is not None:
                    after_forward()
                with part("backward pass"):
                    (loss * weight).backward()
            total = total.to(loss.device) + loss.detach()
            del batch, outputs, aux_loss, loss
    with part("optimiser step"):
        _limit_gradients(replica, configs)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _limit_gradients(replica: nn.Module, configs: Sequence[Config]) -> None:
    """Take the gradient from weights that no subnet of the step has, and cut that of the others."""
    supernet = cast(Replica, getattr(replica, "module", replica)).supernet
    present = {id(weight) for config in configs for weight in supernet.weights_of(config)}
    weights = supernet.largest.trainable_parameters()
    for weight in weights:
        if id(weight) not in present:
            weight.grad = None
    nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM, foreach=False)


def _alone(replica: nn.Module, *, alone: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which gradients stay with this worker, where there are others."""
    no_sync = getattr(replica, "no_sync", None)
    return no_sync() if alone and no_sync is not None else contextlib.nullcontext()
