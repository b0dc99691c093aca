"""Optimizers for predictions: their step has the memory of any step but the first, with few operations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def make_state(optimizer: torch.optim.Optimizer, updated: Iterable[Tensor] | None = None) -> None:
    """Give an optimizer the state that it has after a step, by updating its largest parameter only.

    Args:
        optimizer: A new optimizer.
        updated: The parameters that the optimizer is going to update; None stands for all. The counters of
            others have no content, which would take most of the time on fake tensors.
    """
    parameters = _parameters(optimizer)
    needed = {id(parameter) for parameter in (parameters if updated is None else updated)}
    largest = max(parameters, key=lambda p: p.numel())
    largest.grad = torch.zeros_like(largest)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state = optimizer.state[largest]
    counters = {name: value for name, value in state.items() if value.shape != largest.shape}
    blank = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in counters.items()}
    for parameter in parameters:
        if parameter is not largest:
            copies = counters if id(parameter) in needed else blank
            optimizer.state[parameter] = {
                name: copies[name].clone() if name in counters else torch.zeros_like(parameter)
                for name in state
            }


def decisive_pairs(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, ...]]:
    """Return the parameters that determine the peak memory of an optimizer's step.

    If parameters are updated one by one, each needs temporaries of its own size while some temporaries of the
    previous parameter still exist. The peak therefore depends on pairs of neighbours only. A pair is skipped
    if both sizes of another pair of its group are at least as large; without weight decay, a group may need
    fewer temporaries than others.
    """
    return [pair for group in optimizer.param_groups for pair in _decisive(group["params"])]


def step_only(optimizer: torch.optim.Optimizer, pairs: Sequence[tuple[Tensor, ...]]) -> None:
    """Make an optimizer's step update only some pairs of parameters, each on its own."""
    parameters = _parameters(optimizer)
    step = optimizer.step

    def step_pairs() -> None:
        gradients = {parameter: parameter.grad for parameter in parameters}
        for pair in pairs:
            for parameter in parameters:
                parameter.grad = gradients[parameter] if any(parameter is one for one in pair) else None
            step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    optimizer.__dict__["step"] = step_pairs


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
