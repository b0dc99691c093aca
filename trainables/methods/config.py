"""Configurations of methods: dataclasses whose fields carry help, limits and how they are read from text."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.errors import UserError, unknown
from trainables.options import MOST
from trainables.parameters import Range

#: One number per layer for each modality, lowest layer first.
PerLayer = dict[str, list[int]]


def option(
    default: Any,
    help: str,
    *,
    other: Any,
    low: float | None = None,
    high: float | None = None,
    range: Range | None = None,
    choices: typing.Sequence[Any] | None = None,
) -> Any:
    """Return a field of a method's configuration.

    Args:
        default: The paper's value.
        help: One line for listings.
        other: Another accepted value for which the model's size, memory or output differs. The conformance
            tests use it.
        low: Lowest accepted number; None means no limit.
        high: Highest accepted number; None means no limit.
        range: Replaces ``low`` and ``high`` if a space searches the whole accepted range.
        choices: All accepted values. These may be the ``Choices`` that a space searches.
    """
    if range is not None:
        low, high = range.low, range.high
    accepted = None if choices is None else tuple(choices)
    return field(
        default=default,
        metadata={"help": help, "other": other, "low": low, "high": high, "choices": accepted},
    )


@dataclass(frozen=True)
class MethodConfig:
    """Base of the methods' configurations; every field is an ``option``.

    Raises:
        UserError: If a value is outside of its field's range or choices.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, meta = getattr(self, item.name), item.metadata
            choices, low, high = meta["choices"], meta["low"], meta["high"]
            if choices is not None and value not in choices:
                raise UserError(f"{item.name}={value}: must be {' or '.join(map(str, choices))}")
            for number in _numbers(value):
                if not abs(number) <= MOST:  # not a number is no less than anything
                    raise UserError(f"{item.name}={value}: must be a number of at most {MOST:,}")
                if (low is not None and number < low) or (high is not None and number > high):
                    accepted = f"at least {low}" if high is None else f"{low} to {high}"
                    raise UserError(f"{item.name}={value}: must be {accepted}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from names and values. Strings are converted to the field's type.

        Args:
            values: Values by field name. Missing fields get their defaults.

        Raises:
            UserError: If a name is unknown, or a value does not have the field's type or range.
        """
        hints = typing.get_type_hints(cls)
        fields = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise unknown(f"{cls.__name__} setting", name, fields or ("none: it has no settings",))
        return cls(**{name: read_value(name, value, hints[name]) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in an option's value."""
    if isinstance(value, Mapping):
        for numbers in value.values():
            yield from numbers
    elif isinstance(value, int | float):
        yield value


def read_value(name: str, value: Any, hint: Any) -> Any:
    """Return a field's value in its type, from one that may be a text from the command line.

    Args:
        name: The field's name, for messages.
        value: The value, or a text that stands for it.
        hint: The field's annotated type.

    Raises:
        UserError: If it is no value of that type.
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if PerLayer in options:
        with contextlib.suppress(ValueError, TypeError):
            given = json.loads(value) if isinstance(value, str) else value
            return {str(m): [_whole(number) for number in numbers] for m, numbers in dict(given).items()}
    if value is None or (value in ("none", "None") and type(None) in options):
        if type(None) in options:
            return None
        raise UserError(f"{name}=none: must be {_type_name(options)}")
    for option in options:
        if option is bool and str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
        if option is int and not isinstance(value, bool):
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if number.is_integer():
                return int(number)
        if option is float and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                continue
        if option is str:
            return str(value)
    raise UserError(f"{name}={value}: must be {_type_name(options)}")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or value != int(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _type_name(options: tuple[Any, ...]) -> str:
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    words[PerLayer] = 'one for each layer, such as {"text": [4, 2], "image": [1, 8]}'
    return " or ".join(words.get(option, "none") for option in options)
