"""The command ``data``: what a dataset is understood to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import DataSettings, EncoderSettings, Extensions
from trainables.errors import UserError
from trainables.options import Help, Settings
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings

if TYPE_CHECKING:
    from trainables.data import Dataset
    from trainables.data.understood import Progress, Understood
    from trainables.towers import EncoderSource

#: Rows in the picture.
_ROWS = 24


@dataclass(frozen=True, kw_only=True)
class SheetSettings(Settings):
    """The picture that is drawn of a dataset."""

    panel: ClassVar[str | None] = None

    plot: Annotated[
        Path | None,
        Help(
            "Draw some training rows of each class, with pictures, texts and labels, into this picture (png, "
            "svg or pdf).",
            metavar="FILE",
        ),
    ] = None


@takes(
    Output,
    SheetSettings,
    Extensions,
    ReadingSettings,
    TaskSettings,
    DataSettings,
    EncoderSettings,
    without=(*("dataset", "train_rows", "audio_seconds", "feature_length", "missing", "pooling"),),
)
def data(
    given: Given,
    source: Annotated[
        str,
        typer.Argument(
            help="Name of an included dataset, or the path of a file or folder. FORMAT:PATH says its format, "
            "too.",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
) -> None:
    """Show what a dataset is understood to be, before anything is searched.

    It shows files, splits, sizes, labels, what is missing or there several times, and what looks wrong.
    Pictures are not decoded for it, and nothing is written.
    """
    from search.reporting.progress import error_console
    from search.sizing.charts import check_picture

    plot = given.make(SheetSettings).plot
    if plot is not None:
        check_picture(plot)
    with waiting("loading PyTorch"):
        from search.reporting.understood import print_understood
        from trainables.data import open_dataset
        from trainables.data.kinds.image import color_of

        given.make(Extensions).load()
    reading = given.make(ReadingSettings)
    background = color_of(reading.background)
    with error_console().status(f"reading '{source}'") as status:
        dataset = open_dataset(source, given.make(TaskSettings), reading)
        chosen = given.make(DataSettings).modalities
        if chosen:
            dataset.require(chosen)
            dataset = replace(dataset, modalities={m: dataset.modalities[m] for m in chosen})
        found = _understand(
            dataset, given, lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}")
        )
        if plot is not None:
            _plot(dataset, plot, background)
    if given.make(Output).as_json:
        print_json(found.to_dict())
        return
    console = Console(highlight=False)
    print_understood(found, console)
    if plot is not None:
        console.print(f"picture: {plot}", markup=False, soft_wrap=True)


def _understand(dataset: Dataset, given: Given, progress: Progress) -> Understood:
    """Look at the rows of a dataset, with the encoders that a search would use."""
    from trainables.data.understood import understand
    from trainables.towers import resolve_encoder

    chosen = given.make(EncoderSettings)

    def encoder(modality: str) -> EncoderSource:
        kind = dataset.modalities[modality].kind
        return resolve_encoder(modality, chosen.named.get(modality, chosen.by_kind[kind]), kind=kind)

    return understand(
        dataset,
        encoder,
        text_length=given.make(DataSettings).text_length,
        image_size=chosen.image_size,
        progress=progress,
    )


def _plot(dataset: Dataset, path: Path, background: list[int]) -> None:
    from search.reporting.sheet import plot_sheet
    from trainables.data.understood import examples

    if not {"image", "text"} & {where.kind for where in dataset.modalities.values()}:
        raise UserError(f"--plot: dataset '{dataset.name}' has neither pictures nor texts")
    plot_sheet(examples(dataset, _ROWS), path, f"{dataset.name}: some rows of train", background)
