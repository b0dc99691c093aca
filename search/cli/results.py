"""The end of a search or a training on the command line: its result is printed, and gives the exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from search.cli.printing import print_json
from search.confidential import blot_argument
from search.config.address import TrackingAddress
from search.invocation import program
from search.records.place import MODELS

if TYPE_CHECKING:
    from search.result import SearchResult


def blot_secrets(values: Mapping[str, Any]) -> None:
    """Hide a password in the given address of MLflow from those who list processes."""
    uri = values.get("tracking_uri")
    if uri is not None and TrackingAddress.parse(uri).secrets:
        blot_argument(uri)


def conclude(result: SearchResult, *, as_json: bool) -> None:
    """Print a result.

    Args:
        result: The result.
        as_json: Whether to print its JSON document instead of tables.

    Raises:
        typer.Exit: If a signal ended the search, or if nothing was trained that satisfies its constraints.
    """
    if as_json:
        print_json(result.to_dict())
    else:
        console = Console()
        if result.method is None:
            _print_search(result, console)
        else:
            _print_training(result, console)
        _print_places(result, console)
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)
    if not result.front or not result.trials or result.unmet:  # a probe may be alone on the front
        raise typer.Exit(1)


def _print_search(result: SearchResult, console: Console) -> None:
    from search.records.status import UNFINISHED, Status
    from search.reporting.tables import (
        front_table,
        memory_line,
        methods_table,
        probe_lines,
        tau_line,
        time_line,
    )

    counts = [f"{result.evaluated} subnets evaluated"] if result.strategy == "oneshot" else []
    counts += [f"{result.trials} trials"]
    counts += [f"{result.infeasible} over budget, never started"] if result.infeasible else []
    ends = [(getattr(result, status), status.words) for status in (*UNFINISHED, Status.SET_ASIDE)]
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
        _print_robustness(result, console)
        if result.probe is not None:
            for line in probe_lines(result.probe, result.objectives):
                console.print(line, highlight=False, soft_wrap=True)
        if result.verdict is not None:
            console.print(result.verdict, style="bold", highlight=False, soft_wrap=True)
        console.print(f"{', '.join(counts)}; hypervolume {result.hypervolume:.3f}", highlight=False)
        if result.agreement is not None:
            console.print(tau_line(result.agreement), highlight=False, soft_wrap=True)
        console.print(memory_line(result.memory), highlight=False, soft_wrap=True)
        console.print(time_line(result.seconds), style="dim", highlight=False, soft_wrap=True)
    else:
        console.print(f"no front: {', '.join(counts)}", highlight=False)


def _print_robustness(result: SearchResult, console: Console) -> None:
    from search.reporting.tables import robustness_table

    table = robustness_table(result.front, result.objectives)
    if table is not None:
        console.print(table)


def _print_training(result: SearchResult, console: Console) -> None:
    from search.reporting.tables import memory_line, settings_line, time_line, training_table

    if not result.front:
        console.print("no result: no trial finished", highlight=False)
        return
    row = result.front[0]
    console.print(training_table(row, result.objectives, f"training '{result.name}'"))
    _print_robustness(result, console)
    console.print(settings_line(row), style="dim", highlight=False, soft_wrap=True)
    console.print(memory_line(result.memory), highlight=False, soft_wrap=True)
    console.print(time_line(result.seconds), style="dim", highlight=False, soft_wrap=True)
    console.print(f"weights: {result.place.inside(row['weights'])}", highlight=False, soft_wrap=True)
    for modality, folder in result.encoders.items():
        console.print(f"trained {modality} encoder: {folder}", highlight=False, soft_wrap=True)


def _print_places(result: SearchResult, console: Console) -> None:
    from search.reporting.tables import unmet_line

    if result.front and result.untested is not None:
        console.print(f"test: not scored, {result.untested}", highlight=False, soft_wrap=True)
    if result.unmet:
        console.print(unmet_line(result.unmet), highlight=False, markup=False, soft_wrap=True)
    if result.interrupted or result.set_aside:
        console.print(f"go on: {result.place.resume_command}", highlight=False, soft_wrap=True)
    for message in dict.fromkeys(result.errors):
        console.print(f"failed: {message}", highlight=False, markup=False)
    if any(row["model"] for row in result.front):
        console.print(
            f"models: {os.path.join(result.folder, MODELS)}   (take one out: {program()} export "
            f"{result.place.argument} FOLDER)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    picture = Path(result.folder) / "front.png"
    if picture.exists():
        console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    report = Path(result.folder) / "report.html"
    if report.exists():
        console.print(f"report: {report}   (open it in a browser)", highlight=False, soft_wrap=True)
    mlflow = "mlflow" if shutil.which("mlflow") else os.path.relpath(Path(sys.executable).parent / "mlflow")
    uri = result.tracking_uri
    page = result.tracking_page or ""
    if uri.startswith("http"):
        where = f"{uri.rstrip('/')}/{page}"
    else:
        where = f"{mlflow} ui --backend-store-uri {shlex.quote(uri)}, then http://localhost:5000/{page}"
    console.print(
        f"compare: {where}   (filter the front: tags.front = 'true')", highlight=False, soft_wrap=True
    )
