"""A plugin that records what training really does: each forward pass of a method, each step of an optimizer.

``record`` starts it in a process. Each process writes a file of its own, one event a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainables.methods import FusionMethod


def record(folder: str) -> ExitStack:
    """Record the events of this process from now on, until the stack is closed."""
    path = Path(folder, f"{os.getpid()}.jsonl")
    trials: list[torch.optim.Optimizer] = []

    def write(**event: Any) -> None:
        with path.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def forward(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if not isinstance(module, FusionMethod):
            return
        raw = {name: given for name, given in arguments[0].items() if isinstance(given, Mapping)}
        tensors = [t for given in raw.values() for t in given.values()]
        tensors += [given.tokens for name, given in arguments[0].items() if name not in raw]
        write(
            event="train" if module.training else "evaluate",
            method=type(module).__name__,
            modalities=sorted(arguments[0]),
            rows=len(tensors[0]),
            shapes={name: list(tensor.shape[1:]) for given in raw.values() for name, tensor in given.items()},
            autocast=str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else None,
            threads=torch.get_num_threads(),
        )

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not any(optimizer is known for known in trials):
            trials.append(optimizer)
        groups = optimizer.param_groups
        # Searches do not let biases, norms and prompts decay. A step costs the same.
        decaying = [group for group in groups if group["weight_decay"]]
        assert all(group["lr"] == groups[0]["lr"] for group in groups)
        write(
            event="step",
            trial=f"{os.getpid()}-{len(trials)}",
            optimizer=type(optimizer).__name__,
            **{name: decaying[0][name] for name in ("lr", "betas", "eps", "weight_decay")},
            shapes=sorted(list(parameter.shape) for group in groups for parameter in group["params"]),
        )

    hooks = ExitStack()
    for handle in (register_module_forward_pre_hook(forward), register_optimizer_step_post_hook(stepped)):
        hooks.callback(handle.remove)
    return hooks


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Return the events of all processes."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]
