"""What becomes of rows in which the value of a modality is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from trainables.data.repeats import repeats_of
from trainables.data.rows import SomeRows
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.errors import UserError

#: What becomes of them: the missing value is a blank of its kind, they are left out, or they are refused.
MISSING = ("blank", "skip", "error")

_NAMED = 3  # rows that an error message names


def bad_rows_as(bad_rows: str, missing: str) -> str:
    """Return what becomes of rows that cannot be read, where these may count as missing.

    Args:
        bad_rows: One of ``BAD_ROWS``.
        missing: One of ``MISSING``.
    """
    return missing if bad_rows == "missing" and missing != "blank" else bad_rows


def without_missing(dataset: Dataset, modalities: Iterable[str], how: str) -> Dataset:
    """Return a dataset with its rows treated as the user wants.

    Args:
        dataset: The dataset.
        modalities: The modalities in use.
        how: One of ``MISSING``.

    Raises:
        UserError: If values are missing and ``how`` is ``error``; or if no row of a split is left.
    """
    if how == "blank":
        return dataset
    rows = {modality: missing_rows(dataset, modality) for modality in modalities}
    if how == "error":
        lines = [
            _sentence(dataset, modality, split, found[split])
            for modality, found in rows.items()
            for split in SPLITS
            if found[split]
        ]
        if lines:
            raise UserError(
                f"--missing error: dataset '{dataset.name}': {'; '.join(lines)}; blank takes "
                "such rows with a blank input, and skip leaves them out"
            )
        return dataset
    kept = {}
    for split in SPLITS:
        gone = [row for found in rows.values() for row in found[split]]
        kept[split] = np.setdiff1d(np.arange(dataset.count(split)), np.array(gone, dtype=np.int64))
        if not len(kept[split]):
            raise UserError(
                f"--missing skip: dataset '{dataset.name}': no row of the {split} split is complete"
            )
    if sum(map(len, kept.values())) == sum(map(dataset.count, SPLITS)):
        return dataset
    return replace(dataset, rows=SomeRows(dataset.rows, kept))


def missing_rows(dataset: Dataset, modality: str) -> Mapping[str, list[int]]:
    """Return the numbers of the rows in which a modality is missing, by split."""
    return repeats_of(dataset, modality).missing


def _sentence(dataset: Dataset, modality: str, split: str, rows: list[int]) -> str:
    """Say which rows of a split lack a modality."""
    named = dataset.rows.words(split, rows[:_NAMED])
    more = [f"{len(rows) - _NAMED:,} more"] if len(rows) > _NAMED else []
    return f"{modality} is missing in {len(rows):,} row{'s' * (len(rows) > 1)} ({'; '.join(named + more)})"
