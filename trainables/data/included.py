"""The included datasets, and opening datasets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables.data.digits import digits_are_here, digits_folder
from trainables.data.joined import STORE, JoinedRows
from trainables.data.matching import matched_dataset
from trainables.data.rows import SPLITS, ParquetRows
from trainables.data.source import Dataset, open_folder, open_rows
from trainables.errors import UserError
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
    return open_folder(name, _OPENCLIPART, settings)


def _matches(name: str, settings: TaskSettings) -> Dataset:
    return matched_dataset(_openclipart(name, settings), k=1, seed=0)


def _topics(name: str, settings: TaskSettings) -> Dataset:
    folder = _OPENCLIPART / "topics"
    files = {split: (folder / f"{split}.parquet",) for split in SPLITS}
    store = (*(_OPENCLIPART / f"{split}.parquet" for split in SPLITS), folder / "others.parquet")
    rows = JoinedRows(ParquetRows(name, {**files, STORE: store}), "id", ("text", "image"))
    return open_rows(name, rows, settings)


def _digits(name: str, settings: TaskSettings) -> Dataset:
    return open_folder(name, digits_folder(name), settings)


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


def open_dataset(name: str, settings: TaskSettings | None = None) -> Dataset:
    """Open a dataset and check its schema.

    Args:
        name: Name of an included dataset, or a folder.
        settings: What the user says about the task; None is nothing.

    Raises:
        UserError: If there is no such dataset, a split or column is missing, a split is empty, a column has
            the wrong type, or an included dataset cannot be fetched.
    """
    settings = settings or TaskSettings()
    if name in DATASETS:
        return DATASETS[name].open(name, settings)
    if not os.path.isdir(name):  # False for a name that no file can have, too
        raise UserError(
            f"dataset '{name}': no such folder, and none of the included datasets ({', '.join(DATASETS)})"
        )
    return open_folder(name, Path(name), settings)
