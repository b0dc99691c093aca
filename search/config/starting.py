"""The command line that starts a search with the same settings."""

from __future__ import annotations

import time
from collections.abc import Collection

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
    values, left_out = config.to_dict(), _as_by_default(config, tuple(objectives))
    parts = [program(), *(["train"] if config.configuration.method is not None else [])]
    for name, option in SearchConfig.options().items():
        if name not in left_out and values[name] is not None:
            parts.append(written(option, values[name]))
    return " ".join(parts)


def _as_by_default(config: SearchConfig, objectives: tuple[str, ...]) -> set[str]:
    """Return the names of the settings that need not be written."""
    values, training = config.to_dict(), config.configuration.method is not None
    options = SearchConfig.options()
    deciding = ("space", "strategy", "recipe")  # on which the defaults of others depend
    plain = SearchConfig(**{name: values[name] for name in deciding}).to_dict()
    plain |= {name: options[name].default for name in deciding}
    left_out = {name for name, value in plain.items() if values[name] == value}
    made = time.strftime(f"{config.search.space}-%Y%m%d-%H%M%S", time.localtime(config.created))
    if values["name"] == made:
        left_out.add("name")
    if config.step.target == "cpu":
        left_out |= {"compute_capability", "context_size"}  # of GPUs
    if absolute(config.storage.storage_path) == absolute(DEFAULT_STORAGE):
        left_out.add("storage_path")
    if values["objectives"] == objectives:
        left_out.add("objectives")
    try:
        if config.tracking.address == TrackingAddress.by_default():
            left_out.add("tracking_uri")
    except UserError:  # the variable cannot be read, so the address is no default here
        pass
    return left_out | set(_OF_TRAININGS) if training else left_out
