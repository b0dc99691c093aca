"""The main command, which runs or resumes a search and prints its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from search.cli.defaults import settings_of
from search.cli.options import Given, Output, takes
from search.cli.printing import stdout_kept_for_json
from search.cli.results import blot_secrets, conclude
from search.cli.waiting import waiting
from search.config import ConfigurationSettings, SearchConfig, SearchSettings, more_samples
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


@takes(
    Output,
    ResumeSettings,
    *SearchConfig.blocks().values(),
    without={option.name for option in ConfigurationSettings.options()},
)
def search(context: typer.Context, given: Given) -> None:
    """Search a space."""
    if context.invoked_subcommand is not None:
        return
    resume, as_json = given.make(ResumeSettings).resume, given.make(Output).as_json
    if resume is None and "space" not in given:
        raise UserError(f"--space is missing; `{program()} spaces` lists the spaces")
    values = settings_of(given, resume)
    blot_secrets(values)
    with waiting("loading PyTorch, Ray and MLflow"):
        if resume is None:
            if "num_samples" in values:
                values["num_samples"] = more_samples(values["num_samples"])
            config = SearchConfig(**values)
            config.load()
            config.check()  # before the slow imports
        from search.api import resume_search, run_search

    with stdout_kept_for_json(as_json):
        result = run_search(config) if resume is None else resume_search(resume, **values)
    conclude(result, as_json=as_json)
