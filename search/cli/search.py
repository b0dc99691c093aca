"""The main command, which runs or resumes a search and prints its result."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json, stdout_kept_for_json
from search.cli.waiting import waiting
from search.confidential import blot_argument
from search.config import SearchConfig, SearchSettings, more_samples
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


@takes(Output, ResumeSettings, *SearchConfig.blocks().values())
def search(context: typer.Context, given: Given) -> None:
    """Search a space."""
    if context.invoked_subcommand is not None:
        return
    resume, as_json = given.make(ResumeSettings).resume, given.make(Output).as_json
    if resume is None and "space" not in given:
        raise UserError(f"--space is missing; `{program()} spaces` lists the spaces")
    values = {name: value for name, value in given.values.items() if name in SearchConfig.options()}
    uri = values.get("tracking_uri")
    if uri is not None and TrackingAddress.parse(uri).secrets:
        blot_argument(uri)
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
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)
    if not result.front or not result.trials or result.unmet:  # a probe may be alone on the front
        raise typer.Exit(1)


def _print_result(result: Any) -> None:
    from search.records.status import UNFINISHED
    from search.reporting.tables import (
        front_table,
        memory_line,
        methods_table,
        probe_lines,
        tau_line,
        time_line,
        unmet_line,
    )

    console = Console()
    counts = [f"{result.evaluated} subnets evaluated"] if result.strategy == "oneshot" else []
    counts += [f"{result.trials} trials"]
    counts += [f"{result.infeasible} over budget, never started"] if result.infeasible else []
    ends = [(getattr(result, status), status.words) for status in UNFINISHED]
    counts += [f"{count} {words}" for count, words in ends if count]
    counts += ["the space holds no further configurations"] if result.exhausted else []
    counts += ["interrupted"] if result.interrupted else []
    if result.front:
        title = f"Pareto front of '{result.name}'"
        table, lines = front_table(result.front, result.objectives, result.depths, title, console.width)
        console.print(table)
        for line in lines:
            console.print(line, style="dim", highlight=False, soft_wrap=True)
        if lines:
            console.print()
        if len(result.methods) > 1:
            console.print(methods_table(result.methods, result.objectives))
        if result.probe is not None:
            for line in probe_lines(result.probe, result.objectives):
                console.print(line, highlight=False, soft_wrap=True)
        if result.verdict is not None:
            console.print(result.verdict, style="bold", highlight=False, soft_wrap=True)
        console.print(f"{', '.join(counts)}; hypervolume {result.hypervolume:.3f}", highlight=False)
        if result.strategy == "oneshot":
            console.print(tau_line(result.agreement), highlight=False, soft_wrap=True)
        console.print(memory_line(result.memory), highlight=False, soft_wrap=True)
        console.print(time_line(result.seconds), style="dim", highlight=False, soft_wrap=True)
    else:
        console.print(f"no front: {', '.join(counts)}", highlight=False)
    if result.unmet:
        console.print(unmet_line(result.unmet), highlight=False, markup=False, soft_wrap=True)
    if result.interrupted:
        console.print(f"go on: {result.place.resume_command}", highlight=False, soft_wrap=True)
    for message in dict.fromkeys(result.errors):
        console.print(f"failed: {message}", highlight=False, markup=False)
    picture = Path(result.folder) / "front.png"
    if picture.exists():
        console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    mlflow = "mlflow" if shutil.which("mlflow") else os.path.relpath(Path(sys.executable).parent / "mlflow")
    uri = result.tracking_uri
    where = uri if uri.startswith("http") else f"{mlflow} ui --backend-store-uri {shlex.quote(uri)}"
    console.print(
        f"compare: {where}   (filter the front: tags.front = 'true')", highlight=False, soft_wrap=True
    )
