"""Where a dataset's rows come from: parts that a reader has found, or other rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from trainables.data.plain import cast
from trainables.data.readers import ALL, Part
from trainables.data.readers.tables import kept_of


class Rows(Protocol):
    """The rows of a dataset's splits. They are read on demand."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits; before rows are split, there may be others than ``SPLITS``."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the content of all splits."""
        ...

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        ...

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        ...

    def words(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return what the user calls some rows of a split, for messages."""
        ...


@dataclass(frozen=True)
class PartRows:
    """Rows in parts.

    Attributes:
        parts: The parts of each split, or of what is not yet split.
        types: The type of columns that parts have as different ones.
    """

    parts: Mapping[str, Sequence[Part]]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.parts)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the parts' content."""
        digest = hashlib.sha256()
        for split, parts in self.parts.items():
            for part in parts:
                digest.update(split.encode() + part.fingerprint)
        return digest.hexdigest()[:16]

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return sum(part.count() for part in self.parts[split])

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a part is damaged.
        """
        for part in self.parts[split]:
            for batch in part.batches(columns, rows):
                yield cast(part.name, batch, self.types)

    def words(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return what the user calls some rows of a split."""
        ends = np.cumsum([part.count() for part in self.parts[split]])
        found = []
        for row in rows:
            place = int(np.searchsorted(ends, row, side="right"))
            part = self.parts[split][place]
            word = part.word(row - int(ends[place]) + part.count())
            of = "" if split == ALL else f"{split} "
            found.append(f"{of}row {row}" if word is None else word)
        return found


@dataclass(frozen=True)
class SomeRows:
    """Some of the rows of a dataset, in the same order.

    Attributes:
        rows: All rows.
        kept: For each split, the numbers of the rows that are kept, ascending, shape (N,).
        sources: The split of ``rows`` from which a split's rows come, where it is not the split itself.
    """

    rows: Rows
    kept: Mapping[str, np.ndarray]
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.kept)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the rows, and of which are kept."""
        digest = hashlib.sha256(self.rows.fingerprint.encode())
        for split, kept in self.kept.items():
            digest.update(split.encode() + kept.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def count(self, split: str) -> int:
        """Return the number of kept rows of a split."""
        return len(self.kept[split])

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the kept rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        return kept_of(self.rows.batches(self.source(split), columns, rows), self.kept[split])

    def words(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return what the user calls some kept rows of a split."""
        return self.rows.words(self.source(split), [int(self.kept[split][row]) for row in rows])

    def source(self, split: str) -> str:
        """Return the split of ``rows`` from which a split's rows come."""
        return self.sources.get(split, split)
