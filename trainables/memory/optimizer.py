"""Optimizers for predictions: their step has the memory of any step but the first, with few operations."""

from __future__ import annotations

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
    if both sizes of another pair are at least as large. Each of the other pairs is updated on its own.
    """
    parameters = _parameters(optimizer)
    step = optimizer.step
    pairs = {
        (before.numel(), parameter.numel()): (before, parameter)
        for before, parameter in zip(parameters[:1] + parameters, parameters, strict=False)
    }
    decisive = [
        pair
        for sizes, pair in pairs.items()
        if not any(o != sizes and o[0] >= sizes[0] and o[1] >= sizes[1] for o in pairs)
    ]

    def step_decisive() -> None:
        gradients = {parameter: parameter.grad for parameter in parameters}
        for pair in decisive:
            for parameter in parameters:
                parameter.grad = gradients[parameter] if any(parameter is one for one in pair) else None
            step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    optimizer.__dict__["step"] = step_decisive


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
