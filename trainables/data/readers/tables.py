"""Parts whose rows are a table in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa


@dataclass(frozen=True)
class TablePart:
    """Rows of a table in memory, such as those of a text file, whose pictures are files of their own.

    Attributes:
        name: What the user calls it, for messages: a file's name.
        table: The rows.
        words: What the user calls each row; None counts them.
    """

    name: str
    table: pa.Table
    words: Sequence[str] | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.table.schema

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the content."""
        digest = hashlib.sha256()
        sink = pa.BufferOutputStream()
        table = self.table.combine_chunks()  # so that it does not depend on how rows came
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest.update(sink.getvalue())
        return digest.digest()

    def count(self) -> int:
        """Return the number of rows."""
        return self.table.num_rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows."""
        yield from self.table.select(columns).to_batches(max_chunksize=rows)

    def word(self, row: int) -> str | None:
        """Return what the user calls a row."""
        return None if self.words is None else self.words[row]
