"""The datasets in the package, and opening datasets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainables.data.matching import matched_dataset
from trainables.data.source import Dataset, open_folder
from trainables.errors import UserError
from trainables.task_settings import TaskSettings

_OPENCLIPART = Path(__file__).parent / "openclipart"


@dataclass(frozen=True)
class Included:
    """A dataset in the package.

    Attributes:
        description: One line for listings.
        folder: Folder with the stored rows.
        derive: Makes the dataset from the one in the folder.
    """

    description: str
    folder: Path
    derive: Callable[[Dataset], Dataset] = lambda dataset: dataset


DATASETS = {
    "openclipart": Included(
        "2,402 public-domain drawings with their titles, 13 topics (image + text -> class)", _OPENCLIPART
    ),
    "openclipart_match": Included(
        "the same drawings, with their own or a wrong title (image + text -> does it belong?)",
        _OPENCLIPART,
        partial(matched_dataset, k=1, seed=0),
    ),
}


def open_dataset(name: str, settings: TaskSettings | None = None) -> Dataset:
    """Open a dataset and check its schema.

    Args:
        name: Name of a dataset in the package, or a folder.
        settings: What the user says about the task; None is nothing.

    Raises:
        UserError: If there is no such dataset, a split or column is missing, a split is empty, or a column
            has the wrong type.
    """
    settings = settings or TaskSettings()
    if name in DATASETS:
        return DATASETS[name].derive(open_folder(name, DATASETS[name].folder, settings))
    if not os.path.isdir(name):  # False for a name that no file can have, too
        raise UserError(
            f"dataset '{name}': no such folder, and none of the included datasets ({', '.join(DATASETS)})"
        )
    return open_folder(name, Path(name), settings)
