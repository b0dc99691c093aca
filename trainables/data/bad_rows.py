"""Rows that cannot be read: found while a dataset is prepared, and kept with the prepared data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainables.data.kinds import KINDS, Unreadable
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.errors import UserError

#: Rows that a message names for each reason.
_NAMED = 3

_REASONS = 12  # that a message names

#: Why cells of a split cannot be read, by modality and number of the cell.
BadCells = Mapping[str, Mapping[int, Unreadable]]


@dataclass(frozen=True)
class BadRow:
    """A row in which the value of a modality cannot be read, or was read with a warning.

    Attributes:
        split: Name of the split.
        row: Number of the row.
        modality: The modality.
        why: Why it cannot be read, or what was warned of.
    """

    split: str
    row: int
    modality: str
    why: Unreadable


def write_bad(path: Path, bad: Mapping[str, BadCells]) -> None:
    """Write the bad cells of each split to a file."""
    content = {
        split: {m: [(cell, *astuple(why)) for cell, why in of.items()] for m, of in found.items()}
        for split, found in bad.items()
    }
    path.write_text(json.dumps(content))


def read_bad(path: Path) -> dict[str, BadCells]:
    """Return the bad cells that ``write_bad`` has written. Modalities without any are left out."""
    return {
        split: {m: {cell: Unreadable(*why) for cell, *why in of} for m, of in found.items() if of}
        for split, found in json.loads(path.read_text()).items()
    }


def rows_of(index: Tensor, cells: Iterable[int]) -> Tensor:
    """Return whether the cell of each row is one of some cells, shape (N,).

    Args:
        index: The number of each row's cell, shape (N,).
        cells: Numbers of cells.
    """
    return torch.isin(index, torch.tensor(list(cells), dtype=index.dtype))


def bad_rows_of(split: str, index: Mapping[str, Tensor], bad: BadCells) -> list[BadRow]:
    """Return the rows of a split that have bad cells.

    Args:
        split: Name of the split.
        index: For each modality, the number of each row's cell, shape (N,).
        bad: The bad cells.
    """
    return [
        BadRow(split, int(row), modality, cells[int(index[modality][row])])
        for modality, cells in bad.items()
        for row in rows_of(index[modality], cells).nonzero()[:, 0]
    ]


def refuse(dataset: Dataset, bad: list[BadRow]) -> UserError:
    """Return the error that names bad rows by reason, and the ways out."""
    rows, total = len({(found.split, found.row) for found in bad}), sum(map(dataset.count, SPLITS))
    return UserError(
        f"dataset '{dataset.name}': {rows:,} of {total:,} rows cannot be read: {by_reason(dataset, bad)}. "
        "--bad-rows skip leaves such rows out; --bad-rows missing takes what cannot be read as missing, "
        "and --missing says what becomes of it"
    )


def by_reason(dataset: Dataset, bad: list[BadRow]) -> str:
    """Return rows in words, those of one reason together: how many there are, and the first ones."""
    reasons = [each.in_words for each in alike(dataset, bad)]
    more = [f"and {len(reasons) - _REASONS:,} more reasons"] if len(reasons) > _REASONS else []
    return ", ".join(reasons[:_REASONS] + more)


@dataclass(frozen=True)
class Alike:
    """Rows that cannot be read for one reason.

    Attributes:
        modality: The modality whose values cannot be read.
        kind: Its kind.
        reason: The reason.
        rows: Number of rows.
        first: What the user calls the first few of them.
    """

    modality: str
    kind: str
    reason: str
    rows: int
    first: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """The rows in words: ``2 pictures: HTML (train row 3; train row 7)``."""
        of = "" if self.modality == self.kind else f" of {self.modality}"
        noun = KINDS[self.kind].noun + ("s" if self.rows > 1 else "")
        more = [f"{self.rows - len(self.first):,} more"] if self.rows > len(self.first) else []
        return f"{self.rows:,} {noun}{of}: {self.reason} ({'; '.join([*self.first, *more])})"


def alike(dataset: Dataset, bad: list[BadRow]) -> list[Alike]:
    """Return rows that cannot be read by modality and reason."""
    groups: dict[tuple[str, str], list[BadRow]] = {}
    for found in bad:
        groups.setdefault((found.modality, found.why.reason), []).append(found)
    words = _words(dataset, [found for group in groups.values() for found in group[:_NAMED]])
    return [
        Alike(
            modality,
            dataset.modalities[modality].kind,
            reason,
            len(group),
            tuple(words[found] for found in group[:_NAMED]),
        )
        for (modality, reason), group in groups.items()
    ]


def _words(dataset: Dataset, bad: list[BadRow]) -> dict[BadRow, str]:
    """Return what the user calls rows, with what is particular to each."""
    words = {}
    for split in SPLITS:
        of_split = [found for found in bad if found.split == split]
        called = dataset.rows.words(split, [found.row for found in of_split])
        for found, word in zip(of_split, called, strict=True):
            words[found] = f"{word}, {found.why.detail}" if found.why.detail else word
    return words
