"""Default spaces of the baselines: a frozen linear probe, and methods that train encoders."""

from __future__ import annotations

from typing import Any

from spaces.base import SpaceContext, Trial, Unordered, main_modality, method_space

#: Learning rates for training whole encoders.
FINE_TUNING = (1e-5, 1e-3)


def _nothing(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {}


def _fine_tuned(_: SpaceContext) -> list[dict[str, Any]]:
    return [{"learning_rate": 5e-5}]


LINEAR = method_space(
    "linear",
    "linear classifier on frozen encoders",
    _nothing,
    lambda _: [{"learning_rate": 3e-3}],
    (3e-4, 3e-2),
)
LATE_CONCAT = method_space(
    "late_concat",
    "late concatenation, frozen and fine-tuned",
    lambda trial, _: {"train_encoders": trial.suggest_categorical("train_encoders", [False, True])},
    lambda _: [
        {"train_encoders": True, "learning_rate": 5e-5},
        {"train_encoders": False, "learning_rate": 3e-3},
    ],
    (1e-5, 1e-2),
)
FULL_FINETUNE = method_space("full_finetune", "all encoders fine-tuned", _nothing, _fine_tuned, FINE_TUNING)
IMAGE_ONLY = method_space("image_only", "image encoder alone, fine-tuned", _nothing, _fine_tuned, FINE_TUNING)
TEXT_ONLY = method_space("text_only", "text encoder alone, fine-tuned", _nothing, _fine_tuned, FINE_TUNING)
MMBT = method_space(
    "mmbt",
    "image tokens in a fine-tuned text encoder: their number",
    lambda trial, _: {"n_image_tokens": trial.suggest_int("n_image_tokens", 1, 9)},
    lambda _: [{"n_image_tokens": 1, "learning_rate": 5e-5}, {"n_image_tokens": 3, "learning_rate": 5e-5}],
    FINE_TUNING,
)


def _mbt(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {
        "n_fusion_layers": trial.suggest_int("n_fusion_layers", 2, context.depth),
        "n_bottlenecks": trial.suggest_int("n_bottlenecks", 1, 32, log=True),
    }


def _mbt_points(context: SpaceContext) -> list[dict[str, Any]]:
    """The paper's L_f = 8 of 12 layers and four tokens."""
    layers = max(2, round(context.depth / 3))
    return [{"n_fusion_layers": layers, "n_bottlenecks": 4, "learning_rate": 5e-5}]


MBT = method_space("mbt", "bottleneck tokens: fused layers, number of tokens", _mbt, _mbt_points, FINE_TUNING)


def _main(trial: Trial, context: SpaceContext) -> str:
    return trial.suggest_categorical("main", Unordered(context.depths))


SEQUENTIAL_FUSE = method_space(
    "sequential_fuse",
    "one mapped token a layer, both encoders fine-tuned: direction",
    lambda trial, context: {"main": _main(trial, context)},
    lambda context: [{"main": main_modality(context), "learning_rate": 1e-4}],
    FINE_TUNING,
)
FROZEN = method_space(
    "frozen",
    "frozen main encoder, the other trains and becomes a few tokens: direction, number of tokens",
    lambda trial, context: {"main": _main(trial, context), "n_tokens": trial.suggest_int("n_tokens", 1, 8)},
    lambda context: [{"main": main_modality(context, "text"), "n_tokens": 2, "learning_rate": 5e-5}],
    FINE_TUNING,
)
