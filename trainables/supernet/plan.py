"""What a supernet's training is to do, and which part of it is a worker's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainables.supernet.step import Curriculum


@dataclass(frozen=True)
class SupernetPlan:
    """How a supernet is trained.

    Attributes:
        method: Name of the method.
        learning_rate: Peak learning rate.
        epochs: Number of passes over the training split.
        curriculum: The subnets that each step trains.
        followed: The subnet whose head is started, and that is evaluated after each epoch.
        seed: Seed of the initial weights, of the order of the rows, of the subnets, of dropout and of
            augmentation.
    """

    method: str
    learning_rate: float
    epochs: int
    curriculum: Curriculum
    followed: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class Worker:
    """One of the workers that train a supernet together.

    Attributes:
        rank: Its number, from 0.
        world: Number of workers.
        wrap: Wraps a module so that it shares gradients with the other workers; None if there are none.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] | None = None


#: The worker of a training that has no others.
ALONE = Worker()
