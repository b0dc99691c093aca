"""The main command, which runs or resumes a search and prints its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from search.cli.defaults import settings_of
from search.cli.options import Given, Output, takes
from search.cli.printing import stdout_kept_for_json
from search.cli.results import blot_secrets, conclude
from search.cli.waiting import waiting
from search.config import ConfigurationSettings, SearchConfig, SearchSettings, more_samples
from search.config.address import TrackingAddress
from search.invocation import program
from trainables.errors import UserError
from trainables.options import Help, Settings


@dataclass(frozen=True, kw_only=True)
class ResumeSettings(Settings):
    """The search to resume."""

    panel = SearchSettings.panel

    resume: Annotated[
        str | None,
        Help(
            "Resume a search, however it was interrupted: the one of this name in --storage-path, or the one "
            "in this folder, wherever it was moved. With --num-samples +20 it is extended by twenty trials.",
            metavar="NAME|FOLDER",
        ),
    ] = None


_takes_a_search = takes(
    Output,
    ResumeSettings,
    *SearchConfig.blocks().values(),
    without={option.name for option in ConfigurationSettings.options()},
)


@_takes_a_search
def search(context: typer.Context, given: Given) -> None:
    """Search a space."""
    if context.invoked_subcommand is not None:
        return
    resume, as_json = given.make(ResumeSettings).resume, given.make(Output).as_json
    require_a_space(given)
    values = settings_of(given, resume)
    blot_secrets(values)
    with waiting("loading PyTorch, Ray and MLflow"):
        config = checked(values) if resume is None else None
        from search.api import resume_search, run_search

    with stdout_kept_for_json(as_json):
        result = run_search(config) if config else resume_search(str(resume), **values)
    conclude(result, as_json=as_json)


def check_search(arguments: Sequence[str]) -> None:
    """Check the options of a search that is to run elsewhere, as the search itself checks them.

    Raises:
        UserError: If they are not accepted, or if they cannot be for another machine.
    """

    @_takes_a_search
    def check(given: Given) -> None:
        require_a_space(given)
        values = {name: value for name, value in given.values.items() if name in SearchConfig.options()}
        if "address" in values:
            raise UserError("--address: the search joins the cluster that is launched; leave it out")
        uri = values.get("tracking_uri")
        if uri is not None and TrackingAddress.parse(uri).secrets:
            raise UserError(
                "--tracking-uri: its password would stand in a file; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD on the node that runs the search"
            )
        if given.make(ResumeSettings).resume is None:
            checked(values)

    parser = typer.Typer(add_completion=False)
    parser.command(context_settings={"help_option_names": []})(check)
    parser(list(arguments), standalone_mode=False)


def require_a_space(given: Given) -> None:
    """Raise ``UserError`` if it is neither said what is searched nor what is resumed."""
    if given.make(ResumeSettings).resume is None and "space" not in given:
        raise UserError(f"--space is missing; `{program()} spaces` lists the spaces")


def checked(values: dict[str, Any]) -> SearchConfig:
    """Return the settings of a new search, which were checked without slow imports.

    Raises:
        UserError: If they are not accepted.
    """
    if "num_samples" in values:
        values = {**values, "num_samples": more_samples(values["num_samples"])}
    config = SearchConfig(**values)
    config.load()
    config.check()
    return config
