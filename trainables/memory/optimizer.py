"""Optimizers for predictions: their step has the memory of any step but the first, with few operations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer the state that it has after a step, by updating its largest parameter only."""
    parameters = _parameters(optimizer)
    largest = max(parameters, key=lambda p: p.numel())
    largest.grad = torch.zeros_like(largest)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for parameter in parameters:
        if parameter is not largest:
            optimizer.state[parameter] = {
                name: torch.zeros_like(parameter) if value.shape == largest.shape else value.clone()
                for name, value in optimizer.state[largest].items()
            }


def step_decisive_only(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer's step update only those parameters that determine the step's peak memory.

    If parameters are updated one by one, each needs temporaries of its own size while some temporaries of the
    previous parameter still exist. The peak therefore depends on pairs of neighbours only. A pair is skipped
    if both sizes of another pair of its group are at least as large; without weight decay, a group may need
    fewer temporaries than others. Each of the other pairs is updated on its own.
    """
    parameters = _parameters(optimizer)
    step = optimizer.step
    decisive = [pair for group in optimizer.param_groups for pair in _decisive(group["params"])]

    def step_decisive() -> None:
        gradients = {parameter: parameter.grad for parameter in parameters}
        for pair in decisive:
            for parameter in parameters:
                parameter.grad = gradients[parameter] if any(parameter is one for one in pair) else None
            step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    optimizer.__dict__["step"] = step_decisive


def _decisive(parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return those pairs of neighbours of a group that no other pair exceeds.

    The first parameter has none before it, which counts as one of size 0.
    """
    sizes = [0, *(parameter.numel() for parameter in parameters)]
    pairs = {
        pair: parameters[max(index - 1, 0) : index + 1]
        for index, pair in enumerate(itertools.pairwise(sizes))
    }
    return [
        tuple(neighbours)
        for pair, neighbours in pairs.items()
        if not any(other != pair and other[0] >= pair[0] and other[1] >= pair[1] for other in pairs)
    ]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
