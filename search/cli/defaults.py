"""Options that the environment adds to those of the command line, as the machines of a cluster do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection
from typing import Any

import typer

from search.cli.options import Given, options_of, read, was_given
from search.config import SearchConfig, StorageSettings, more_samples
from search.config.address import TrackingAddress
from search.config.command import written
from search.config.markers import Changeable
from search.records.place import Place, absolute
from search.reporting.progress import error_console, say
from trainables.errors import UserError

#: The variable holds options of ``search``, as a shell would take them.
VARIABLE = "PARETOFUSE_OPTIONS"
#: Base class of Typer's errors about arguments, from Typer's own copy of click.
UsageError: Any = typer.BadParameter.__base__


def read_variable(search: Callable[..., None], others: Collection[Callable[..., None]]) -> dict[str, Any]:
    """Return the values in the variable, as Typer's map of defaults.

    Args:
        search: The main command. The variable may hold those of its options that are settings of a search.
        others: Further commands for which it holds; it says nothing about options that they lack.

    Raises:
        UserError: If the variable has other options, or values that these cannot have.
    """
    alone = typer.Typer(add_completion=False)
    alone.command(add_help_option=False)(search)
    try:
        words = shlex.split(os.environ.get(VARIABLE, ""))
        context: Any = typer.main.get_command(alone).make_context(VARIABLE, words)
        given = [option for option in options_of(search) if was_given(context, option.name)]
        values = {option.name: context.params[option.name] for option in given}
        for option in given:
            if option.name not in SearchConfig.options():
                raise UserError(f"{option.flag} can be given on the command line only")
            value = read(option, values[option.name])
            option.check(more_samples(value) if option.name == "num_samples" else value)
    except (ValueError, UserError) as error:
        raise UserError(f"{VARIABLE}: {error}") from None
    except UsageError as error:
        raise UserError(f"{VARIABLE}: {error.format_message()}") from None
    own = {command: {option.name for option in options_of(command)} for command in others}
    return values | {
        command.__name__: {name: value for name, value in values.items() if name in names}
        for command, names in own.items()
    }


def settings_of(given: Given, resume: str | None = None) -> dict[str, Any]:
    """Return the settings of a search, and say which of them come from the variable.

    Args:
        given: The values of the command line and of the variable.
        resume: The search to resume. The variable then says only where it is, if this is a name, and where
            it runs: its other settings stay what they were.
    """
    options = SearchConfig.options()
    values = {name: value for name, value in given.values.items() if name in options}
    defaults = [name for name in values if name in given.defaults]
    if resume is not None:
        for name in [name for name in defaults if not _resumes_with(name, values[name], resume)]:
            defaults.remove(name)
            del values[name]
    if defaults:
        shown = {name: values[name] for name in defaults}
        if "tracking_uri" in shown:
            shown["tracking_uri"] = str(TrackingAddress.parse(shown["tracking_uri"]))
        texts = [written(options[name], value) for name, value in shown.items()]
        say(error_console(), f"from the variable {VARIABLE}: {' '.join(texts)}")
    return values


def _resumes_with(name: str, value: Any, resume: str) -> bool:
    if name == "storage_path":
        return Place.of(resume, value) == Place(absolute(value), resume)
    option = SearchConfig.options()[name]
    return option.panel == StorageSettings.panel and option.find(Changeable) is not None
