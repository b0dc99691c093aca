"""What a search's settings say of their fields, beside help and limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search.units import parse_duration, parse_size, write_duration, write_size

#: trials: every configuration is trained on its own; oneshot: one supernet serves them all.
STRATEGIES = ("trials", "oneshot")


@dataclass(frozen=True)
class Only:
    """The field means something with one strategy only."""

    strategy: str


@dataclass(frozen=True)
class DefaultWith:
    """With one strategy the field's default is another one."""

    strategy: str
    value: Any


@dataclass(frozen=True)
class Changeable:
    """The field may change when a search is resumed, because no trial's result depends on it."""


@dataclass(frozen=True)
class Written:
    """How people write a value on the command line.

    Attributes:
        metavar: What stands for such a value in help texts.
        parse: From the text to the value; raises a UserError.
        show: From the value to a text that ``parse`` accepts.
    """

    metavar: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


SIZE = Written("SIZE", parse_size, write_size)
DURATION = Written("TIME", parse_duration, write_duration)
NAMES = Written("NAME[,NAME]", split_names, ",".join)
#: A number, or ``+20`` for so many more than before; ``search.config.more_samples`` reads it.
COUNT = Written("N", str, str)
