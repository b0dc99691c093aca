"""The parts of a search's configuration: method, method options and changes to the training setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fields of the training setting that a space may search in addition to a method's options.
SEARCHED_SETTINGS = ("gradient_checkpointing",)


def split_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a configuration's method name and the method's own fields."""
    others = ("method", "learning_rate", *SEARCHED_SETTINGS)
    return config["method"], {k: v for k, v in config.items() if k not in others}


def setting_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the shared training setting that a configuration changes."""
    return {k: config[k] for k in SEARCHED_SETTINGS if k in config}
