"""Makes the options of commands from the fields of settings: signature, help texts and values."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from search.config.command import is_repeated, shown
from search.config.markers import DefaultWith, Written
from trainables.errors import UserError
from trainables.options import Help, OneOf, OnlyWith, Option, Settings

_Made = TypeVar("_Made", bound=Settings)
_Command = Callable[..., None]

#: Where Typer says that a value from its map of defaults is from.
_DEFAULTS = "DEFAULT_MAP"
#: The options of each command.
_OPTIONS: dict[_Command, tuple[Option, ...]] = {}


@dataclass(frozen=True)
class Given:
    """The values that were given; all other fields have their defaults.

    Attributes:
        values: The given values by field, with the fields' types.
        defaults: Fields whose values are not from the command line, but from the map of defaults.
    """

    values: dict[str, Any]
    defaults: frozenset[str] = frozenset()

    def make(self, settings: type[_Made]) -> _Made:
        """Return settings with their given values.

        Raises:
            UserError: If a value is not accepted.
        """
        names = {option.name for option in settings.options()}
        return settings(**{name: value for name, value in self.values.items() if name in names})

    def __contains__(self, name: str) -> bool:
        return name in self.values


def takes(
    *settings: type[Settings], without: Collection[str] = (), panels: Mapping[str, str] | None = None
) -> Callable[[_Command], _Command]:
    """Return a decorator for a command whose options are the fields of settings.

    The command is called with ``given`` and with its own parameters, which precede the options in the help
    text.

    Args:
        settings: The settings, in the order of the help text.
        without: Fields that this command does not take as options.
        panels: Headings that are replaced in this command's help text.
    """
    found = [option for kind in settings for option in kind.options() if option.name not in without]
    options = [
        dataclasses.replace(option, panel=(panels or {}).get(option.panel or "", option.panel))
        for option in found
    ]

    def decorate(command: _Command) -> _Command:
        own = inspect.signature(command, eval_str=True).parameters
        asks = "context" in own

        @functools.wraps(command)
        def run(context: typer.Context, **values: Any) -> None:
            texts = {option.name: values.pop(option.name) for option in options}
            given = {
                option.name: read(option, texts[option.name])
                for option in options
                if was_given(context, option.name)
            }
            defaults = frozenset(name for name in given if _source(context, name) == _DEFAULTS)
            try:
                command(given=Given(given, defaults), **values, **({"context": context} if asks else {}))
            except (
                KeyboardInterrupt
            ):  # Typer would end the program without a word, and with Ctrl-C's exit code
                raise typer.Abort from None

        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        others = [p for name, p in own.items() if name not in ("given", "context")]
        parameters = [context, *(p.replace(kind=context.kind) for p in others), *map(_parameter, options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {}  # Typer reads the signature
        _OPTIONS[run] = tuple(options)
        return run

    return decorate


def options_of(command: Callable[..., None]) -> tuple[Option, ...]:
    """Return the options of a command, in the order of its help text."""
    return _OPTIONS[command]


def was_given(context: typer.Context, name: str) -> bool:
    """Return whether an option was given: on the command line, or in the map of defaults."""
    return _source(context, name) in ("COMMANDLINE", _DEFAULTS)


def _source(context: typer.Context, name: str) -> str | None:
    source = context.get_parameter_source(name)
    return source and source.name


def read(option: Option, text: Any) -> Any:
    """Return a field's value from the value that Typer has parsed.

    Raises:
        UserError: If the text stands for no value.
    """
    written = option.find(Written)
    if written is not None:
        try:
            return written.parse(text)
        except UserError as error:
            raise UserError(f"{option.flag} {error}") from None
    return tuple(text) if isinstance(text, list) else text


def _parameter(option: Option) -> inspect.Parameter:
    """Return an option in Typer's form, as a parameter of a command."""
    written, default = option.find(Written), option.default
    kind: Any = str if written else list[str] if is_repeated(option) else option.type
    if default in (None, (), dataclasses.MISSING):
        kind, default = kind | None, None
    in_words = option.help.default or option.find(DefaultWith)
    only = " and ".join(conditions(option))
    made = typer.Option(
        *([option.flag] if option.help.flag else []),
        help=option.help.text + (f" Only with {only}." if only else ""),
        metavar=metavar(option),
        rich_help_panel=option.panel,
        show_default=(default_in_words(option) if in_words else None) or True,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=shown(option, default),
        annotation=Annotated[kind, made],
    )


def conditions(option: Option) -> list[str]:
    """Return with which other options an option has a meaning, unless its heading says so."""
    found = (marker.condition for marker in option.markers if isinstance(marker, OnlyWith))
    return [condition for condition in found if condition not in (option.panel or "")]


def metavar(option: Option) -> str | None:
    """Return the placeholder of an option's value in help texts; None means the name of its type."""
    written, one_of = option.find(Written), option.find(OneOf)
    if option.help.metavar or written:
        return option.help.metavar or (written and written.metavar)
    return "|".join(one_of.names) if one_of and not callable(one_of.names) else None


def default_in_words(option: Option) -> str | None:
    """Return an option's default in words; None if it has none."""
    if option.help.default:
        return option.help.default
    if option.default in (None, (), dataclasses.MISSING):
        return None
    default, other = shown(option, option.default), option.find(DefaultWith)
    more = f"; {shown(option, other.value)} with --strategy {other.strategy}" if other else ""
    return f"{default}{more}"


@dataclass(frozen=True, kw_only=True)
class Output(Settings):
    """Settings of a command's output."""

    as_json: Annotated[
        bool,
        Help(
            "Print one JSON document on standard output, and everything else on standard error.",
            flag="--json",
        ),
    ] = False
