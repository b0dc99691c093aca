"""The progress of preparing a dataset, shown in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainables.data import SPLITS, Dataset
from trainables.data.prepared import Progress as Report


@contextmanager
def preparing(dataset: Dataset, console: Console, doing: str = "preparing") -> Iterator[Report]:
    """Show a bar of all rows while something is done with them, and yield the function that moves it on."""
    before, rows = {}, 0
    for split in SPLITS:
        before[split] = rows
        rows += dataset.count(split)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
    )
    # Elsewhere it would leave an empty line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{doing} '{dataset.name}'", total=rows)
        yield lambda split, done, _: bar.update(task, completed=before[split] + done)
