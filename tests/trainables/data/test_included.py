"""The datasets in the package, and opening datasets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.data import DATASETS, SPLITS, open_dataset
from trainables.errors import UserError


@pytest.mark.parametrize("name", DATASETS)
def test_included_datasets_open(name: str) -> None:
    dataset = open_dataset(name)
    assert set(dataset.modalities) == {"text", "image"}
    assert all(dataset.count(split) > 0 for split in SPLITS)
    assert dataset.task.output_size > 1


def test_missing_folder_names_the_included_datasets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*no such folder.*openclipart"):
        open_dataset(str(tmp_path / "nowhere"))
