"""The bar that is shown while a dataset is prepared."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from search.backends.preparing import preparing
from tests.trainables.data.test_source import columns, write_dataset
from trainables.data import SPLITS, Dataset, open_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Five rows in each split."""
    return open_dataset(str(write_dataset(tmp_path / "[d]", **dict.fromkeys(SPLITS, columns(5)))))


def _shown(dataset: Dataset, terminal: bool) -> str:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=200)
    with preparing(dataset, console) as progress:
        for split in SPLITS:
            progress(split, 5, 5)
    return shown.getvalue()


def test_rows_of_all_splits_are_counted(dataset: Dataset) -> None:
    shown = _shown(dataset, terminal=True)
    assert f"preparing '{dataset.name}'" in shown
    assert "15/15" in shown


def test_nothing_is_left_where_no_terminal_is(dataset: Dataset) -> None:
    assert _shown(dataset, terminal=False) == ""
