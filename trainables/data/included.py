"""The included datasets, and opening datasets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables.data.digits import digits_are_here, digits_folder
from trainables.data.joined import JoinedPart, Store
from trainables.data.matching import matched_dataset
from trainables.data.readers import READERS, Found, is_there, read_path, split_address
from trainables.data.readers.parquet import ParquetPart, described_by
from trainables.data.source import Dataset, open_found
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings

_OPENCLIPART = Path(__file__).parent / "openclipart"


@dataclass(frozen=True)
class Included:
    """A dataset for which the user needs no files.

    Attributes:
        description: One line for listings.
        open: Opens it; called with its name and what the user says about the task.
        is_here: Returns whether nothing has to be fetched.
    """

    description: str
    open: Callable[[str, TaskSettings], Dataset]
    is_here: Callable[[], bool] = lambda: True


def _openclipart(name: str, settings: TaskSettings) -> Dataset:
    return _parquet(name, _OPENCLIPART, settings)


def _parquet(name: str, folder: Path, settings: TaskSettings) -> Dataset:
    return open_found(name, READERS["parquet"].read(name, folder, ReadingSettings()), settings)


def _matches(name: str, settings: TaskSettings) -> Dataset:
    return matched_dataset(_openclipart(name, settings), k=1, seed=0)


def _topics(name: str, settings: TaskSettings) -> Dataset:
    folder = _OPENCLIPART / "topics"
    paths = (*(_OPENCLIPART / f"{split}.parquet" for split in SPLITS), folder / "others.parquet")
    store = Store([ParquetPart(name, path) for path in paths], "id", ("text", "image"))
    parts = {split: [ParquetPart(name, folder / f"{split}.parquet")] for split in SPLITS}
    joined = {split: [JoinedPart(part, store) for part in own] for split, own in parts.items()}
    return open_found(name, Found(joined, folder, described_by(name, parts["train"])), settings)


def _digits(name: str, settings: TaskSettings) -> Dataset:
    return _parquet(name, digits_folder(name), settings)


DATASETS = {
    "openclipart": Included(
        "2,402 public-domain drawings with their titles, 13 topics (image + text -> class)", _openclipart
    ),
    "openclipart_match": Included(
        "the same drawings, with their own or a wrong title (image + text -> does it belong?)", _matches
    ),
    "openclipart_topics": Included(
        "2,731 drawings with their titles, each with some of 24 topics (image + text -> topics)", _topics
    ),
    "digits": Included(
        "2,000 handwritten digits, described by six vectors (fou, fac, kar, pix, zer, mor -> digit)",
        _digits,
        digits_are_here,
    ),
    "digits_regression": Included(
        "the same digits (pix + fou -> the six numbers of mor)", _digits, digits_are_here
    ),
    "digits_retrieval": Included(
        "the same digits (which zer + mor belong to which fou?)", _digits, digits_are_here
    ),
}


def open_dataset(
    name: str, settings: TaskSettings | None = None, reading: ReadingSettings | None = None
) -> Dataset:
    """Open a dataset and check its columns.

    Args:
        name: Name of an included dataset, a path, ``FORMAT:PATH``, or ``hf:NAME`` for one of the hub.
        settings: What the user says about the task; None is nothing.
        reading: What the user says about reading; None is nothing.

    Raises:
        UserError: If there is no such dataset, a column is missing or has the wrong type, a split is empty,
            or an included dataset cannot be fetched.
    """
    settings, reading = settings or TaskSettings(), reading or ReadingSettings()
    if name in DATASETS:
        return DATASETS[name].open(name, settings)
    if not is_there(name, reading):
        raise UserError(
            f"dataset '{name}': no such file or folder, and none of the included datasets "
            f"({', '.join(DATASETS)})"
        )
    return open_found(name, read_path(name, reading), settings, reading)


def address_of(name: str) -> str:
    """Return the name by which other processes find a dataset: paths become absolute, others stay."""
    format_name, path = split_address(name)
    of_paths = format_name is None or READERS[format_name].of_paths
    if name in DATASETS or not of_paths or not os.path.exists(path):
        return name
    return f"{format_name}:{os.path.abspath(path)}" if format_name else os.path.abspath(path)
