"""The commands ``apply`` and ``score``: a trained model on rows, with or without labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json, stdout_kept_for_json
from search.cli.waiting import waiting
from search.reporting.progress import error_console
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help, Settings
from trainables.reading_settings import ReadingSettings

if TYPE_CHECKING:
    from search.exporting.scoring import Scored
    from trainables.tasks import Task

#: Settings of reading that a model decides itself, or that only a search has.
_OF_SEARCHES = ("validation_fraction", "background")
_FOLDER = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the model.", show_default=False)]
_DATA = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="The rows: a file, a folder, FORMAT:PATH, or the name of an included dataset.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """How a model runs."""

    panel: ClassVar[str | None] = "Running the model"

    device: Annotated[
        str | None,
        Help("Device to compute on: cpu, cuda or cuda:1.", default="a GPU if there is one"),
    ] = None
    batch_size: Annotated[
        int | None,
        Help("Number of rows that are computed at once.", metavar="N", default="that of a training step"),
        AtLeast(1),
        AtMost(MOST),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ApplySettings(Settings):
    """Which rows a model is applied to, and what is written of its answers."""

    out: Annotated[
        Path | None,
        Help("File for the answers, which ends with .parquet or .csv. It has to be given.", metavar="FILE"),
    ] = None
    split: Annotated[
        str, Help("Rows of one split only, if the data have splits.", metavar="train|validation|test|all")
    ] = "all"
    top: Annotated[
        int | None,
        Help(
            "Write the probabilities of the N likeliest labels, too. For a retrieval, it is the number of "
            "rows that a query is answered with, which is 10 by default.",
            metavar="N",
            default="only the label's own probability",
        ),
        AtLeast(1),
        AtMost(MOST),
    ] = None
    id: Annotated[
        str | None,
        Help(
            "Column that tells the rows apart; it is written beside the answers.",
            metavar="COLUMN",
            default="a column named id, uid, key, row_id or sample_id, if there is one",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """Which rows a model is scored on."""

    split: Annotated[
        str | None,
        Help(
            "The split to score.",
            metavar="train|validation|test|all",
            default="test; all rows if the data have no splits",
        ),
    ] = None


@takes(ApplySettings, RunSettings, ReadingSettings, without=_OF_SEARCHES)
def apply(given: Given, folder: _FOLDER, data: _DATA) -> None:
    """Write a model's answers for all rows of a table: labels, tags, values or rankings.

    Labels and splits are not needed. The answers have one row for each row of the data, in the same order.
    Memory does not grow with the number of rows, except for a retrieval, which compares all of them.
    """
    settings, reading = given.make(ApplySettings), given.make(ReadingSettings)
    if settings.out is None:
        raise UserError("--out is missing; name a file that ends with .parquet or .csv")
    with waiting("loading PyTorch"):
        from search.exporting.applying import Reader, wanted_of
        from search.exporting.predictions import check_out, write_predictions
        from trainables.data.table import open_table
        from trainables.model import load_model, read_description

    check_out(settings.out)
    console = error_console()
    table = open_table(data, wanted_of(read_description(folder)), reading, ident=settings.id)
    splits = table.of_split(settings.split)
    for note in table.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    with console.status("loading the model"):
        run = given.make(RunSettings)
        reader = Reader(load_model(folder, run.device, run.batch_size), table, reading.bad_rows)
    started = time.monotonic()
    with _progress(f"applying '{folder.name}'", table.count(splits), console) as progress:
        rows = write_predictions(reader, splits, settings.out, settings.top, progress)
    _say_unread(reader.unread_in_words(), console)
    rate = rows / max(time.monotonic() - started, 1e-9)
    print(f"{settings.out}: {rows:,} rows, {rate:,.0f} rows/s")


@takes(ScoreSettings, RunSettings, Output, ReadingSettings, without=_OF_SEARCHES)
def score(given: Given, folder: _FOLDER, data: _DATA) -> None:
    """Say how good a model is on rows with labels: the task's metrics, with their 95 % intervals.

    The intervals are those of a bootstrap over the rows: how much the value could change with other rows of
    the same kind. If the data are those of the model's search, the values are compared with what the search
    has reported.
    """
    settings, reading = given.make(ScoreSettings), given.make(ReadingSettings)
    as_json = given.make(Output).as_json
    with waiting("loading PyTorch"):
        from search.exporting.applying import Reader
        from search.exporting.scoring import open_labeled
        from search.exporting.scoring import score as score_model
        from trainables.model import load_model, read_description

    console, description = error_console(), read_description(folder)
    said = any(name in given for name in ("format", "columns"))
    labeled = open_labeled(data, description, reading if said else None)
    table = labeled.table
    split = settings.split or ("test" if "test" in table.rows.splits else "all")
    splits = table.of_split(split)
    for note in table.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    with stdout_kept_for_json(as_json), console.status("loading the model"):
        run = given.make(RunSettings)
        model = load_model(folder, run.device, run.batch_size)
    reader = Reader(model, table, reading.bad_rows)
    reported = description.about.get("metrics", {}).get(split, {}) if labeled.same else {}
    with _progress(f"scoring '{folder.name}'", table.count(splits), console) as progress:
        scores, rows = score_model(reader, splits, progress, reported)
    _say_unread(reader.unread_in_words(), console)
    if as_json:
        print_json(
            {
                "data": data,
                "split": split,
                "rows": rows,
                "same_data": labeled.same,
                "metrics": {name: asdict(each) for name, each in scores.items()},
            }
        )
        return
    _print_scores(model.task, scores, f"{table.name}, {split}: {rows:,} rows", same=labeled.same)


@contextmanager
def _progress(what: str, rows: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar of all rows with the speed, and yield the function that moves it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    # Elsewhere it would leave an empty line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=rows, rate=0.0)

        def progress(done: int) -> None:
            bar.update(task, completed=done, rate=done / max(time.monotonic() - started, 1e-9))

        yield progress


def _say_unread(unread: str, console: Console) -> None:
    if unread:
        console.print(f"not read: {unread}", markup=False, highlight=False, soft_wrap=True)


def _print_scores(task: Task, scores: dict[str, Scored], title: str, *, same: bool) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    compared = same and any(each.reported is not None for each in scores.values())
    for heading in ("value", "standard error", "95 % interval", *(["search"] if compared else [])):
        table.add_column(heading, justify="right")
    units = {metric.name: metric.unit for metric in task.metrics}
    for name, each in scores.items():
        texts = [_text(value, units[name]) for value in (each.value, each.standard_error)]
        texts.append(" to ".join(_text(end, units[name]) for end in (each.low, each.high)))
        table.add_row(name, *texts, *([_text(each.reported, units[name])] if compared else []))
    console = Console(highlight=False)
    console.print(table)
    console.print(_comparison(scores, same=same), soft_wrap=True)


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.4g}"


def _comparison(scores: dict[str, Scored], *, same: bool) -> str:
    """Say whether values are those that the search has reported."""
    if not same:
        return "these are not the data of the model's search, or they were read in another way"
    apart = [each.apart for each in scores.values() if each.apart is not None]
    if not apart:
        return "the search has reported no values for these rows"
    from search.exporting.scoring import ROUNDING

    if max(apart) <= ROUNDING:
        return "the values are those that the search has reported"
    return (
        f"the values differ from those that the search has reported by up to {max(apart):.1e}; another "
        "device, precision or version of PyTorch rounds differently"
    )
