"""Settings whose fields describe themselves: type, default, help and limits, each written once.

A field is ``name: Annotated[type, Help("What it does."), AtLeast(1)] = default``. The command line, the
checks and the table of options in the docs are made from it. This module imports nothing heavy, because the
command line reads the fields of all settings before it knows what is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from trainables.errors import UserError, unknown

Marker = TypeVar("Marker")


@dataclass(frozen=True)
class Help:
    """What a user reads of a field. A field without it is no option.

    Attributes:
        text: What the option does, and in which unit, in whole sentences.
        panel: Heading that the option stands under; None is that of its settings.
        metavar: What stands for the value; None names its type.
        default: What happens by default, in words, where the default value does not say it.
        flag: The option, where it is not called as its field.
    """

    text: str
    _: KW_ONLY
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    flag: str | None = None


@dataclass(frozen=True)
class AtLeast:
    """The least value that a number may have."""

    limit: float

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is less."""
        if value < self.limit:
            raise UserError(f"{option.flag} {value}: must be at least {self.limit:g}")


@dataclass(frozen=True)
class MoreThan:
    """A limit that a number must exceed."""

    limit: float

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is not above the limit."""
        if value <= self.limit:
            raise UserError(f"{option.flag} {value}: must be more than {self.limit:g}")


@dataclass(frozen=True)
class OneOf:
    """The names that a text may be, or a function that looks them up where they are registered."""

    names: tuple[str, ...] | Callable[[], Iterable[str]]

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is none of the names."""
        names = self.names() if callable(self.names) else self.names
        if value not in names:
            raise unknown(option.name.replace("_", " "), value, names)


@dataclass(frozen=True)
class Option:
    """A described field.

    Attributes:
        name: The field's name.
        type: Its type.
        default: Its default; ``dataclasses.MISSING`` if it must be given.
        markers: What the annotation says beside the type.
        panel: Heading of its settings.
    """

    name: str
    type: Any
    default: Any
    markers: tuple[Any, ...]
    panel: str | None

    def find(self, kind: type[Marker]) -> Marker | None:
        """Return the marker of a kind, or None."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)

    @property
    def help(self) -> Help:
        """What a user reads of it."""
        found = self.find(Help)
        assert found is not None
        return found

    @property
    def flag(self) -> str:
        """How it is written on the command line, e.g. ``--batch-size``."""
        found = self.find(Help)
        return (found and found.flag) or f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> None:
        """Check a value; None, where the type allows it, keeps to every limit.

        Raises:
            UserError: If the value is not accepted.
        """
        for marker in self.markers:
            if value is not None and isinstance(marker, AtLeast | MoreThan | OneOf):
                marker.check(self, value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of settings: a frozen dataclass that checks its fields by what their annotations say.

    Raises:
        UserError: If a value is not accepted.
    """

    panel: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        for described in _fields(type(self)):
            described.check(getattr(self, described.name))

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return the fields that are options, in their order."""
        return tuple(described for described in _fields(cls) if described.find(Help))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)


#: The described fields of settings that were asked for before.
_FIELDS: dict[type[Settings], tuple[Option, ...]] = {}


def _fields(settings: type[Settings]) -> tuple[Option, ...]:
    if settings not in _FIELDS:
        hints = get_type_hints(settings, include_extras=True)
        fields = dataclasses.fields(settings)
        _FIELDS[settings] = tuple(_describe(field, hints[field.name], settings) for field in fields)
    return _FIELDS[settings]


def _describe(field: dataclasses.Field[Any], hint: Any, settings: type[Settings]) -> Option:
    kind, *markers = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    found = next((marker for marker in markers if isinstance(marker, Help)), None)
    panel = found.panel if found and found.panel else settings.panel
    return Option(field.name, kind, field.default, tuple(markers), panel)
