"""The command line that starts a search with the same settings."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from search.config.address import TrackingAddress
from search.config.command import written
from search.config.config import SearchConfig
from search.invocation import program
from search.records.place import DEFAULT_STORAGE, absolute
from trainables.errors import UserError

#: Settings that ``train`` sets itself.
_OF_TRAININGS = ("space", "num_samples", "sampler", "probe")


def command_line(config: SearchConfig, objectives: Collection[str] = ()) -> str:
    """Return the command line that starts a search with the same settings, from the current folder.

    Settings that have their defaults are left out. What was decided when the search began, such as its
    precision, is stated. No setting holds a secret, so the command line has none.

    Args:
        config: The settings of the search.
        objectives: The objectives that the search has by default.
    """
    head = [program(), *(["train"] if config.configuration.method is not None else [])]
    return " ".join([*head, *options_apart(config, _plain(config), _as_by_default(config, objectives))])


def options_apart(config: SearchConfig, plain: Mapping[str, Any], left_out: Collection[str]) -> list[str]:
    """Return the options, as they are written, whose values are not the plain ones.

    Those of GPUs are left out if memory is not for one.

    Args:
        config: The settings of a search.
        plain: A value for each option, by name.
        left_out: Names of options that are not written, whatever their values.
    """
    values = config.to_dict()
    if config.step.target == "cpu":
        left_out = {*left_out, "compute_capability", "context_size"}
    return [
        written(option, values[name])
        for name, option in SearchConfig.options().items()
        if name not in left_out and values[name] not in (None, (), plain[name])
    ]


def _plain(config: SearchConfig) -> dict[str, Any]:
    """Return the value of each option that a search has if it is not given."""
    values, options = config.to_dict(), SearchConfig.options()
    deciding = ("space", "strategy", "recipe")  # on which the defaults of others depend
    plain = SearchConfig(**{name: values[name] for name in deciding}).to_dict()
    return plain | {name: options[name].default for name in deciding}


def _as_by_default(config: SearchConfig, objectives: Collection[str]) -> set[str]:
    """Return the names of the settings that are what they would be otherwise, though not by a fixed value."""
    values, training = config.to_dict(), config.configuration.method is not None
    left_out = set()
    made = time.strftime(f"{config.search.space}-%Y%m%d-%H%M%S", time.localtime(config.created))
    if values["name"] == made:
        left_out.add("name")
    if absolute(config.storage.storage_path) == absolute(DEFAULT_STORAGE):
        left_out.add("storage_path")
    if values["objectives"] == tuple(objectives):
        left_out.add("objectives")
    try:
        if config.tracking.address == TrackingAddress.by_default():
            left_out.add("tracking_uri")
    except UserError:  # the variable cannot be read, so the address is no default here
        pass
    return left_out | set(_OF_TRAININGS) if training else left_out
