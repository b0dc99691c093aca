"""The space of LoRA: rank, which matrices, how many top layers."""

from __future__ import annotations

from typing import Any

from spaces.base import SpaceContext, Trial, method_space, suggest_layers


def _lora(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {
        "n_layers": suggest_layers(trial, context, "n_layers"),
        "rank": trial.suggest_int("rank", 1, 64, log=True),
        "targets": trial.suggest_categorical("targets", ["query+value", "attention", "all"]),
    }


def _points(context: SpaceContext) -> list[dict[str, Any]]:
    """The Wander paper's ranks in all layers of the shallowest encoder, then a cheap one."""
    return [
        {"n_layers": layers, "rank": rank, "targets": "query+value", "learning_rate": 1e-3}
        for layers, rank in ((context.depth, 64), (context.depth, 16), (1, 4))
    ]


LORA = method_space("lora", "LoRA: rank r, matrices, tuned top layers", _lora, _points)
