"""Markers of the fields of a search's settings, in addition to help texts and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.units import parse_duration, parse_size, write_duration, write_size
from trainables.errors import UserError
from trainables.options import OnlyWith

#: With trials, every configuration is trained on its own; with oneshot, all subnets share one supernet.
STRATEGIES = ("trials", "oneshot")
#: The field has a meaning only with one of them.
TRIALS_ONLY, ONESHOT_ONLY = (OnlyWith("strategy", (strategy,)) for strategy in STRATEGIES)


@dataclass(frozen=True)
class DefaultWith:
    """The field has another default with one strategy."""

    strategy: str
    value: Any


@dataclass(frozen=True)
class Changeable:
    """The field may change when a search is resumed, because no trial's result depends on it."""


@dataclass(frozen=True)
class Written:
    """The form in which a value is written on the command line.

    Attributes:
        metavar: Placeholder of such a value in help texts.
        parse: Returns the value of a text, or raises ``UserError``.
        show: Returns a text that ``parse`` accepts for a value.
    """

    metavar: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def named_values(option: str, texts: Sequence[str], example: str) -> dict[str, str]:
    """Return the values of an option that is given as ``NAME=VALUE``, by name.

    Args:
        option: The option's name, for messages.
        texts: The given texts.
        example: An accepted text, for messages.

    Raises:
        UserError: If a text is not of that form.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{option} {text}: write NAME=VALUE, e.g. {option} {example}")
        values[name.strip()] = value.strip()
    return values


SIZE = Written("SIZE", parse_size, write_size)
DURATION = Written("TIME", parse_duration, write_duration)
NAMES = Written("NAME[,NAME]", split_names, ",".join)
#: A number, or ``+20`` for twenty more than before; ``search.config.more_samples`` reads it.
COUNT = Written("N", str, str)
