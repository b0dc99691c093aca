"""One optimization step of a supernet, for training and for memory prediction."""

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
from trainables.seeds import derive_seed
from trainables.step.setting import TrainingSetting
from trainables.step.training import limit_gradient, training_loss
from trainables.tasks import Task
from trainables.towers import part

#: Maximum norm of a step's gradient if the setting has none. Deep and shallow subnets share one learning
#: rate. Without the limit, a few steps of deep subnets at a rate for shallow ones can destroy the shared
#: weights.
MAX_GRADIENT_NORM = 1.0

#: uniform: a step trains one random subnet; sandwich: it trains the largest, the smallest and a random one.
PATHS = ("uniform", "sandwich")

Config = Mapping[str, Any]


def check_paths(paths: str, *, distill: bool) -> None:
    """Check the choice of subnets that steps train.

    Raises:
        UserError: If ``paths`` is unknown, or ``distill`` is used without ``sandwich``.
    """
    if paths not in PATHS:
        raise unknown("paths", paths, PATHS)
    if distill and paths != "sandwich":
        raise UserError("--distill: needs --paths sandwich, to have a largest subnet to learn from")


@dataclass(frozen=True)
class Curriculum:
    """The choice of subnets that each step trains.

    Attributes:
        paths: ``uniform`` (Chen et al. 2021, AutoFormer, Sec. 3.3) or ``sandwich`` (Yu and Huang 2019,
            Universally slimmable networks, Sec. 3.2).
        distill: With ``sandwich``: whether all but the largest subnet learn the largest one's output instead
            of the labels (Yu and Huang 2019, Sec. 3.3; Yu et al. 2020, BigNAS).
        largest: The largest subnet.
        smallest: The smallest subnet.
        draw: Draws a subnet at random.

    Raises:
        UserError: If ``paths`` is unknown, or ``distill`` is used without ``sandwich``.
    """

    paths: str
    distill: bool
    largest: Config
    smallest: Config
    draw: Callable[[random.Random], Config]

    def __post_init__(self) -> None:
        check_paths(self.paths, distill=self.distill)

    def subnets(self, seed: int, epoch: int, step: int) -> list[Config]:
        """Return the subnets of a step. They are the same for every worker."""
        drawn = self.draw(random.Random(derive_seed(seed, "subnet", epoch, step)))
        return [drawn] if self.paths == "uniform" else [self.largest, self.smallest, drawn]

    @property
    def heaviest(self) -> list[Config]:
        """The subnets of the step that needs the most memory."""
        return [self.largest] if self.paths == "uniform" else [self.largest, self.smallest, self.largest]


class Replica(nn.Module):
    """A supernet in a form that ``DistributedDataParallel`` can wrap: all trained weights are in every graph.

    Weights that a subnet does not use get a gradient of zero, like the unused rows of a weight.
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
    """Run forward and backward passes of some subnets on the same rows, then one optimizer step.

    The loss is the mean over subnets of their mean losses. The norm of its gradient is limited to the
    setting's ``clip_norm``, or to ``MAX_GRADIENT_NORM`` if that is None. Weights of which no subnet of the
    step uses any part do not change, and neither do their optimizer moments: with gradients of zero, Adam
    would keep moving the weights of rarely drawn layers. If a part of a weight is used, the rest gets a
    gradient of zero, so momentum and weight decay still change it. With gradient accumulation the rows are
    run in parts; if the task has a query, wrong pairs are those within a part.

    Args:
        replica: A ``Replica``, possibly wrapped to share gradients with other workers.
        configs: The subnets. With ``distill``, the largest comes first.
        load: Returns a slice of the rows as a batch for a subnet.
        rows: Number of rows.
        task: The task, which computes the loss.
        setting: How the step is run.
        optimizer: Optimizer of the supernet's trained weights.
        distill: Whether all but the first subnet learn the first one's output.
        weight: Weight of this worker's loss relative to the other workers' losses.
        after_forward: Called after each forward pass, before its backward pass.

    Returns:
        The mean loss over subnets and rows, detached from the graph.
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
                    loss = training_loss(task, outputs, batch.labels, setting)
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
    with part("optimizer step"):
        _drop_unused_gradients(replica, configs)
        limit_gradient(optimizer, setting.clip_norm or MAX_GRADIENT_NORM, setting)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _drop_unused_gradients(replica: nn.Module, configs: Sequence[Config]) -> None:
    """Remove the gradient of weights of which no subnet uses any part."""
    supernet = cast(Replica, getattr(replica, "module", replica)).supernet
    present = {id(weight) for config in configs for weight in supernet.weights_of(config)}
    for weight in supernet.largest.trainable_parameters():
        if id(weight) not in present:
            weight.grad = None


def _alone(replica: nn.Module, *, alone: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context manager that, if ``alone``, keeps gradients from being shared with other workers."""
    no_sync = getattr(replica, "no_sync", None)
    return no_sync() if alone and no_sync is not None else contextlib.nullcontext()
