"""Spaces of the two baselines without prompts: only the learning rate is open."""

from __future__ import annotations

from typing import Any

from spaces.base import Space, SpaceContext, Trial, register_space, suggest_learning_rate


def _linear(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {"method": "linear", "learning_rate": suggest_learning_rate(trial, 3e-4, 3e-2)}


def _late_concat(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {
        "method": "late_concat",
        "train_encoders": trial.suggest_categorical("train_encoders", [False, True]),
        "learning_rate": suggest_learning_rate(trial, 1e-5, 1e-2),
    }


LINEAR = register_space(
    Space(
        "linear",
        "linear classifier on frozen encoders: learning rate",
        _linear,
        lambda _: [{"learning_rate": 3e-3}],
    )
)

LATE_CONCAT = register_space(
    Space(
        "late_concat",
        "late concatenation, frozen and fine-tuned: learning rate",
        _late_concat,
        lambda _: [
            {"train_encoders": False, "learning_rate": 3e-3},
            {"train_encoders": True, "learning_rate": 5e-5},
        ],
    )
)
