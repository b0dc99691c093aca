"""A head that starts from the linear probe's solution on what the untrained method hands to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.methods import FusionMethod, Queried
from trainables.methods.heads import head_inputs, query_inputs, set_head
from trainables.probe.solver import LinearSolution, solve_linear
from trainables.progress import Tick, no_tick
from trainables.seeds import derive_seed
from trainables.tasks import Task


def start_head(
    method: FusionMethod, task: Task, run: Callable[[str], Tensor], seed: int, tick: Tick = no_tick
) -> None:
    """Start a method as the best linear model of what it hands to its head before training.

    All of it trains from there: linear probing, then fine-tuning (Kumar et al., ICLR 2022, LP-FT), with the
    probe solved exactly. Its strength is that which does best on the validation split.

    If the task has a query, its projection starts as a random rotation of the query's standardized features,
    and the head as the same rotation of their prediction. This keeps the angles between vectors, exactly if
    they are as long as the features.

    Args:
        method: A method that has not trained yet.
        task: The task.
        run: Runs the method on all rows of a split, ``train`` or ``validation``, without dropout, and
            returns their labels.
        seed: Seed of the training.
        tick: Called after each strength.
    """
    fitted, held_out = (_seen(method, run, split) for split in ("train", "validation"))
    queries = None
    if fitted.queries is not None and held_out.queries is not None:
        queries = fitted.queries, held_out.queries
    solution = solve_linear(
        task,
        (fitted.features, fitted.labels),
        (held_out.features, held_out.labels),
        tick=tick,
        queries=queries,
    )
    if isinstance(method, Queried):
        _start_with_query(method, solution, derive_seed(seed, "rotation"))
    else:
        set_head(method, solution.weight, solution.bias)


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


def _seen(method: FusionMethod, run: Callable[[str], Tensor], split: str) -> _Seen:
    with head_inputs(method) as found, query_inputs(method) as asked:
        labels = run(split)
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
