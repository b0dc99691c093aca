"""An optimizer whose step takes what every step but the first takes, with few operations."""

from __future__ import annotations

import torch
from torch import Tensor


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser the state that it has after a step, by a step of one parameter only."""
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
    """Let a step change only those parameters that decide what the step takes at most.

    Parameters that are stepped one by one need temporaries of their own size, and some of the one before are
    still there. So only pairs of neighbours matter, and of these only such that no other pair is as large
    in both; each of them is stepped on its own.
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
