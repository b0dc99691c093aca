"""Options as they are written on the command line."""

from __future__ import annotations

import shlex
from typing import Any, get_origin

from search.config.markers import Written
from trainables.options import Option


def is_repeated(option: Option) -> bool:
    """Return whether an option is given once for each of its values."""
    return get_origin(option.type) is tuple and option.find(Written) is None


def shown(option: Option, value: Any) -> Any:
    """Return a value in the form in which it is written on the command line."""
    written_as = option.find(Written)
    return written_as.show(value) if written_as and value is not None else value


def written(option: Option, value: Any) -> str:
    """Return an option and its value as they are written on the command line."""
    if isinstance(value, bool):
        return option.flag if value else option.flag.replace("--", "--no-", 1)
    values = value if is_repeated(option) else [shown(option, value)]
    return " ".join(f"{option.flag} {shlex.quote(_text(each))}" for each in values)


def _text(value: Any) -> str:
    """Return a value as a text, a number in the shortest exact form."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)
