"""The parts of a search's configuration: method, method options and changes to the training settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fields of the training setting that a configuration may state in addition to a method's options.
SEARCHED_SETTINGS = (
    "gradient_checkpointing",
    "batch_size",
    "optimizer",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
    "modality_learning_rates",
)
#: Fields of the recipe that a configuration may state: all of them.
SEARCHED_RECIPE = (
    "schedule",
    "milestones",
    "decay_epochs",
    "gamma",
    "warm_up",
    "head_learning_rate",
    "head_start",
    "keep",
    "modality_dropout",
)
#: All fields of a configuration that are no options of its method.
NO_OPTIONS = frozenset(("method", "learning_rate", *SEARCHED_SETTINGS, *SEARCHED_RECIPE))


def split_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a configuration's method name and the method's own fields."""
    return config["method"], {k: v for k, v in config.items() if k not in NO_OPTIONS}


def setting_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the shared training setting that a configuration changes."""
    return {k: config[k] for k in SEARCHED_SETTINGS if k in config}


def recipe_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the shared recipe that a configuration changes."""
    return {k: config[k] for k in SEARCHED_RECIPE if k in config}
