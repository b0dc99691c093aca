"""What several kinds of parts have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from trainables.data.readers.base import Part
from trainables.data.readers.opening import file_hash


@dataclass(frozen=True)
class FilePart:
    """A part whose rows are those of a file. A kind of files says what its schema, rows and batches are.

    Attributes:
        dataset: The dataset's name in error messages.
        path: The file.
    """

    dataset: str
    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the file."""
        return file_hash(self.path)

    def word(self, row: int) -> str | None:
        """Return None: rows of tables have numbers only."""
        return None


@dataclass(frozen=True)
class WrappedPart:
    """A part that is made from another one, and like it in all that is not said otherwise.

    Attributes:
        part: The other part.
    """

    part: Part

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.part.name

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.part.schema

    @property
    def fingerprint(self) -> bytes:
        """A hash of the content."""
        return self.part.fingerprint

    def count(self) -> int:
        """Return the number of rows."""
        return self.part.count()

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the part is damaged.
        """
        return self.part.batches(columns, rows)

    def word(self, row: int) -> str | None:
        """Return what the user calls a row."""
        return self.part.word(row)
