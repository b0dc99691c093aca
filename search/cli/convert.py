"""The command ``convert``: a dataset of any format becomes a folder of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import Extensions
from search.reporting.progress import error_console
from search.units import format_size
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings
from trainables.units import MIB

#: Settings of a task that files can say, and those that say how it is learnt.
_STORED = ("task", "query", "tag_delimiter")
_OF_TRAINING = tuple(option.name for option in TaskSettings.options() if option.name not in _STORED)


@takes(Output, ReadingSettings, TaskSettings, Extensions, without=(*_OF_TRAINING, "background"))
def convert(
    given: Given,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="The dataset: a file, a folder, or FORMAT:PATH.", show_default=False
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.", show_default=False)],
) -> None:
    """Write a dataset as Parquet files with all texts, pictures and labels: train, validation and test.

    The folder can be copied to any machine, and is searched as the dataset itself is.
    """
    with waiting("loading PyTorch"):
        from search.backends.preparing import preparing
        from trainables.data import convert as write
        from trainables.data import open_dataset

        given.make(Extensions).load()
    reading = given.make(ReadingSettings)
    dataset = open_dataset(source, given.make(TaskSettings), reading)
    console = error_console()
    for note in dataset.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    with preparing(dataset, console, "converting") as progress:
        counts = write(dataset, folder, reading.bad_rows, progress)
    left_out = sum(dataset.count(split) - count for split, count in counts.items())
    if left_out:
        rows = "row that cannot be read is" if left_out == 1 else "rows that cannot be read are"
        console.print(f"{left_out:,} {rows} left out", highlight=False, soft_wrap=True)
    files = {split: folder / f"{split}.parquet" for split in counts}
    if given.make(Output).as_json:
        sizes = {split: path.stat().st_size for split, path in files.items()}
        print_json({"folder": str(folder), "rows": counts, "bytes": sizes})
        return
    for split, path in files.items():
        size = path.stat().st_size
        print(f"{path}: {counts[split]:,} rows, {format_size(size) if size >= MIB else 'under 1 MiB'}")
