"""A head that starts from the linear probe's solution on what the untrained method hands to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data.loader import Loader
from trainables.methods import Queried
from trainables.methods.heads import head_inputs, query_inputs, set_head
from trainables.probe.solver import LinearSolution, solve_linear
from trainables.progress import Tick, no_tick
from trainables.seeds import derive_seed
from trainables.trial.trainer import Trainer


def start_head(trainer: Trainer, validation: Loader, tick: Tick = no_tick) -> None:
    """Start a trainer's method as the best linear model of what it hands to its head before training.

    All of it trains from there: linear probing, then fine-tuning (Kumar et al., ICLR 2022, LP-FT), with the
    probe solved exactly. Its strength is that which does best on the validation split.

    If the task has a query, its projection starts as a random rotation of the query's standardized features,
    and the head as the same rotation of their prediction. This keeps the angles between vectors, exactly if
    they are as long as the features.

    Args:
        trainer: A trainer that has not trained yet.
        validation: The validation split.
        tick: Called after each batch, and after each strength.
    """
    fitted, held_out = (_seen(trainer, loader, tick) for loader in (trainer.train_loader, validation))
    queries = None
    if fitted.queries is not None and held_out.queries is not None:
        queries = fitted.queries, held_out.queries
    solution = solve_linear(
        trainer.task,
        (fitted.features, fitted.labels),
        (held_out.features, held_out.labels),
        tick=tick,
        queries=queries,
    )
    if isinstance(trainer.method, Queried):
        _start_with_query(trainer.method, solution, derive_seed(trainer.seed, "rotation"))
    else:
        set_head(trainer.method, solution.weight, solution.bias)


@dataclass(frozen=True)
class _Seen:
    """What a method hands to its head for the rows of a split.

    Attributes:
        features: Shape (N, F).
        labels: The labels.
        queries: The query's features, shape (N, Q); None without a query.
    """

    features: Tensor
    labels: Tensor
    queries: Tensor | None


def _seen(trainer: Trainer, loader: Loader, tick: Tick) -> _Seen:
    with head_inputs(trainer.method) as found, query_inputs(trainer.method) as asked:
        _, labels = trainer.outputs(loader, tick)
    return _Seen(torch.cat(found), labels, torch.cat(asked) if asked else None)


@torch.no_grad()
def _start_with_query(method: Queried, solution: LinearSolution, seed: int) -> None:
    """Let a method give the vectors of a solution, rotated to the length of its own."""
    moments, projection = solution.query, method.projection
    assert moments is not None
    rotation = torch.empty(projection.weight.shape)
    torch.nn.init.orthogonal_(rotation, generator=torch.Generator().manual_seed(seed))
    projection.weight.copy_(rotation / moments.scale)
    projection.bias.copy_(-rotation.double() @ (moments.mean / moments.scale))
    set_head(method, rotation @ solution.weight, rotation @ solution.bias)
