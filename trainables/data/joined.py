"""Rows that take some of their columns from files that several datasets share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trainables.data.rows import ParquetRows

#: The files that hold the shared columns, among the files of the splits.
STORE = "store"


@dataclass(frozen=True)
class JoinedRows:
    """Rows in Parquet files, with columns that are found by a key in other Parquet files.

    The shared columns are read into memory.

    Attributes:
        files: The files of each split, and those of ``STORE``. All have the key's column.
        key: Name of the column whose values find a row's shared columns. They are unique in the store.
        shared: The shared columns.
    """

    files: ParquetRows
    key: str
    shared: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """What the schema of the first training file says."""
        return self.files.metadata

    @property
    def fingerprint(self) -> str:
        """A hash of the content of all files, those of the store among them."""
        return self.files.fingerprint

    def schemas(self) -> dict[Path, pa.Schema]:
        """Return the schema of each file of the splits, with the shared columns."""
        store = self.files.schema(self.files.files[STORE][0])
        shared = [store.field(column) for column in self.shared]
        return {path: pa.schema([*schema, *shared]) for path, schema in self.files.schemas().items()}

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return self.files.count(split)

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        own = [self.key, *(column for column in columns if column not in (self.key, *self.shared))]
        for batch in self.files.batches(split, own, rows):
            yield pa.record_batch(
                {c: self._found(c, batch[self.key]) if c in self.shared else batch[c] for c in columns}
            )

    def _found(self, column: str, keys: pa.Array) -> pa.Array:
        return self._store[column].take(pc.index_in(keys, value_set=self._store[self.key]))

    @cached_property
    def _store(self) -> dict[str, pa.Array]:
        columns = [self.key, *self.shared]
        table = pa.Table.from_batches(self.files.batches(STORE, columns, 2**16))
        return {column: table[column].combine_chunks() for column in columns}
