"""The space of MoPE: experts k, prompt length l, temperature, importance loss, direction, tuning, depth."""

from __future__ import annotations

from typing import Any

from spaces.base import SpaceContext, Trial, Unordered, main_modality, method_space


def _mope(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    main = trial.suggest_categorical("main", Unordered(context.depths))
    return {
        "main": main,
        "n_experts": trial.suggest_int("n_experts", 2, 16, log=True),
        "prompt_length": trial.suggest_int("prompt_length", 1, 16, log=True),
        "temperature": trial.suggest_float("temperature", 0.05, 1.0, log=True),
        "importance_weight": trial.suggest_categorical("importance_weight", [0.0, 0.001, 0.01, 0.1]),
        "complementary_tuning": trial.suggest_categorical("complementary_tuning", ["frozen", "prompt"]),
        "n_prompted_layers": trial.suggest_int("n_prompted_layers", 1, context.depths[main]),
    }


def _points(context: SpaceContext) -> list[dict[str, Any]]:
    """The paper's k = 16 and k = 4 with l = 6 in all layers, then a cheap one: frozen text, two layers."""
    layers = context.depths[main_modality(context)]
    return [
        _point(context, 16, layers, "prompt"),
        _point(context, 4, layers, "prompt"),
        _point(context, 4, min(2, layers), "frozen"),
    ]


def _point(context: SpaceContext, experts: int, layers: int, tuning: str) -> dict[str, Any]:
    return {
        "main": main_modality(context),
        "n_experts": experts,
        "prompt_length": 6,
        "temperature": 0.1,
        "importance_weight": 0.01,
        "complementary_tuning": tuning,
        "n_prompted_layers": layers,
        "learning_rate": 5e-4,
    }


MOPE = method_space(
    "mope",
    "MoPE: direction, experts k, prompt length l, temperature, importance weight, prompted layers",
    _mope,
    _points,
)
