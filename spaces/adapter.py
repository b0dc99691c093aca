"""Spaces of the adapters: Houlsby's, UniAdapter and Aurora; size and how many top layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spaces.base import SpaceContext, Trial, method_space, suggest_layers


def _sized(name: str, high: int) -> Callable[[Trial, SpaceContext], dict[str, Any]]:
    def parameters(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return {
            "n_layers": suggest_layers(trial, context, "n_layers"),
            name: trial.suggest_int(name, 4, high, log=True),
        }

    return parameters


def _points(name: str, *sizes: int) -> Callable[[SpaceContext], list[dict[str, Any]]]:
    """The Wander paper's sizes in all layers of the shallowest encoder, then a cheap one."""

    def points(context: SpaceContext) -> list[dict[str, Any]]:
        tried = [(context.depth, size) for size in sizes] + [(1, 16)]
        return [{"n_layers": layers, name: size, "learning_rate": 1e-3} for layers, size in tried]

    return points


ADAPTER = method_space(
    "adapter",
    "Houlsby's adapters: bottleneck d, adapted top layers",
    _sized("bottleneck", 128),
    _points("bottleneck", 64, 128),
)
UNIADAPTER = method_space(
    "uniadapter",
    "UniAdapter: bottleneck d, adapted top layers",
    _sized("bottleneck", 128),
    _points("bottleneck", 128),
)
AURORA = method_space(
    "aurora", "Aurora: rank R, adapted top layers", _sized("rank", 128), _points("rank", 128, 64)
)
