"""Settings whose fields declare their type, default, help text and limits in one place.

A field is written ``name: Annotated[type, Help("What it does."), AtLeast(1)] = default``. The command line,
the checks and the table of options in the docs are generated from the fields. A value must be of the field's
type. Beyond that, numbers are finite and fit into 64 bits, and texts are not empty and hold no control
characters, unless a field says otherwise. This module imports nothing heavy, because the command line reads
the fields of all settings at every start.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from trainables.errors import UNPRINTABLE, UserError, unknown

Marker = TypeVar("Marker")

#: The largest whole number that databases and tensors can hold.
LARGEST = 2**63 - 1
#: The largest size of a sample, and the largest number of samples or classes: with more, even names and
#: empty lists would not fit into memory.
MOST = 10**6
#: The longest duration in seconds, over thirty years; timers take no much longer one.
LONGEST = 10**9


@dataclass(frozen=True)
class Help:
    """The help text of a field. A field without ``Help`` is not an option of the command line.

    Attributes:
        text: What the option does and its unit, in whole sentences.
        panel: Heading of the option in ``--help``; None takes the heading of its settings class.
        metavar: Placeholder of the value in ``--help``; None takes the name of the type.
        default: What happens by default, in words, where the default value does not tell.
        flag: Name of the option on the command line; None derives it from the field's name.
    """

    text: str
    _: KW_ONLY
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    flag: str | None = None


@dataclass(frozen=True)
class AtLeast:
    """The smallest value that a number may have."""

    limit: float

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is below the limit."""
        if value < self.limit:
            raise UserError(f"{option.flag} {value}: must be at least {self.limit:,}")


@dataclass(frozen=True)
class AtMost:
    """The largest value that a number may have."""

    limit: float

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is above the limit."""
        if value > self.limit:
            raise UserError(f"{option.flag} {value}: must be at most {self.limit:,}")


@dataclass(frozen=True)
class MoreThan:
    """A limit that a number must exceed."""

    limit: float

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is not above the limit."""
        if value <= self.limit:
            raise UserError(f"{option.flag} {value}: must be more than {self.limit:,}")


@dataclass(frozen=True)
class OneOf:
    """The accepted values of a text: a tuple of names, or a function that returns the registered ones."""

    names: tuple[str, ...] | Callable[[], Iterable[str]]

    def check(self, option: Option, value: Any) -> None:
        """Raise a UserError if a value is not one of the names."""
        names = self.names() if callable(self.names) else self.names
        if value not in names:
            raise unknown(option.name.replace("_", " "), value, names)


@dataclass(frozen=True)
class Registered:
    """The accepted values of a text: the names in a registry, to which plugins may add.

    A value is checked by ``Settings.check``, after the plugins were loaded.
    """

    names: Callable[[], Iterable[str]]


@dataclass(frozen=True)
class OnlyWith:
    """The field has a meaning only where another option has one of some values.

    ``search.config.SearchConfig.check`` refuses other values than the default elsewhere.
    """

    option: str
    values: tuple[str, ...]

    @property
    def condition(self) -> str:
        """The other option and the values, ``--scheduler pareto_asha, asha or median``."""
        *others, last = self.values
        values = f"{', '.join(others)} or {last}" if others else last
        return f"--{self.option.replace('_', '-')} {values}"


@dataclass(frozen=True)
class Kept:
    """The form in which a field's value is kept, e.g. an absolute path for a relative one.

    Attributes:
        form: Returns that form of a value. A value that has the form already stays unchanged.
    """

    form: Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """A field of a settings class, with everything that its annotation declares.

    Attributes:
        name: The field's name.
        type: The field's type.
        default: The default value; ``dataclasses.MISSING`` if a value is required.
        markers: The annotation's entries after the type: help text and limits.
        panel: Heading of the option in ``--help``.
    """

    name: str
    type: Any
    default: Any
    markers: tuple[Any, ...]
    panel: str | None

    def find(self, kind: type[Marker]) -> Marker | None:
        """Return the first marker of a class, or None."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)

    @property
    def help(self) -> Help:
        """The help text."""
        found = self.find(Help)
        assert found is not None
        return found

    @property
    def flag(self) -> str:
        """The name of the option on the command line, e.g. ``--batch-size``."""
        found = self.find(Help)
        return (found and found.flag) or f"--{self.name.replace('_', '-')}"

    def kept(self, value: Any) -> Any:
        """Return the form in which a value is kept; None stays None."""
        marker = self.find(Kept)
        return value if marker is None or value is None else marker.form(value)

    def check(self, value: Any) -> None:
        """Check a value against the field's type and limits; None satisfies every limit.

        Raises:
            UserError: If the value is not accepted.
        """
        wanted = _wanted(self.type, value)
        if wanted is not None:
            raise UserError(f"{self.flag} {_shown(value)}: must {wanted}")
        for marker in self.markers:
            if value is not None and isinstance(marker, AtLeast | AtMost | MoreThan | OneOf):
                marker.check(self, value)


def _wanted(kind: Any, value: Any) -> str | None:
    """Return what a value of a type must do, after the word *must*; None if this value does."""
    if get_origin(kind) in (Union, types.UnionType):
        kinds = get_args(kind)
        found = [_wanted(other, value) for other in kinds if other is not types.NoneType]
        return None if (value is None and types.NoneType in kinds) or None in found else found[0]
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return "be a tuple"
        inner = get_args(kind)[0]
        return next((wanted for wanted in (_wanted(inner, each) for each in value) if wanted), None)
    check = _CHECKS.get(kind)
    return check(value) if check else None


def _wanted_of_switch(value: Any) -> str | None:
    return None if isinstance(value, bool) else "be true or false"


def _wanted_of_count(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        return "be a whole number"
    number = int(value)
    if abs(number) <= LARGEST:
        return None
    return f"be at most {LARGEST}" if number > 0 else f"be at least -{LARGEST}"


def _wanted_of_number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return "be a number"
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        finite = False
    return None if finite else "be a finite number"


def _wanted_of_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return "be a text"
    if not value.strip():
        return "not be empty"
    return "have no line breaks or other control characters" if UNPRINTABLE.search(value) else None


def _wanted_of_path(value: Any) -> str | None:
    return _wanted_of_text(str(value)) if isinstance(value, Path) else "be a path"


_CHECKS: dict[Any, Callable[[Any], str | None]] = {
    bool: _wanted_of_switch,
    int: _wanted_of_count,
    float: _wanted_of_number,
    str: _wanted_of_text,
    Path: _wanted_of_path,
}


def _shown(value: Any) -> str:
    """Return a value for a message: texts in quotes, and nothing so long that it hides the message."""
    if isinstance(value, int) and abs(value) > 10**60:
        return f"of {value.bit_length()} bits"  # Python writes no number of thousands of digits
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:60]}…"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of settings: a frozen dataclass that checks its fields against their annotations.

    Fields that are marked with ``Kept`` are brought into that form afterwards.

    Raises:
        UserError: If a value is not accepted.
    """

    panel: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        for described in _fields(type(self)):
            value = getattr(self, described.name)
            described.check(value)
            if described.find(Kept):
                object.__setattr__(self, described.name, described.kept(value))

    def check(self) -> None:
        """Look up the names in these settings; plugins that register some of them must have been loaded.

        Raises:
            UserError: If nothing is registered under a name.
        """
        for described in _fields(type(self)):
            found = described.find(Registered)
            if found is not None:
                OneOf(found.names).check(described, getattr(self, described.name))

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return the fields that are options of the command line, in the order of their definition."""
        return tuple(described for described in _fields(cls) if described.find(Help))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)


#: Cache of ``_fields``: the options of each settings class.
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
