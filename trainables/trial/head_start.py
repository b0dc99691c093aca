"""A head that starts from the linear probe's solution on what the untrained method hands to it."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.loader import Loader
from trainables.methods.heads import head_inputs, set_head
from trainables.probe.solver import solve_linear
from trainables.progress import Tick, no_tick
from trainables.trial.trainer import Trainer


def start_head(trainer: Trainer, validation: Loader, tick: Tick = no_tick) -> None:
    """Start a trainer's method as the best linear model of what it hands to its head before training.

    All of it trains from there: linear probing, then fine-tuning (Kumar et al., ICLR 2022, LP-FT), with the
    probe solved exactly. Its strength is that which does best on the validation split.

    Args:
        trainer: A trainer that has not trained yet.
        validation: The validation split.
        tick: Called after each batch, and after each strength.
    """
    train = _seen(trainer, trainer.train_loader, tick)
    solution = solve_linear(trainer.task, train, _seen(trainer, validation, tick), tick=tick)
    set_head(trainer.method, solution.weight, solution.bias)


def _seen(trainer: Trainer, loader: Loader, tick: Tick) -> tuple[Tensor, Tensor]:
    """Return what a method hands to its head for the rows of a split, shape (N, F), and the labels."""
    with head_inputs(trainer.method) as found:
        _, labels = trainer.outputs(loader, tick)
    return torch.cat(found), labels
