"""Rows that take some of their columns from files that several datasets share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from trainables.data.readers import Part
from trainables.data.readers.parts import WrappedPart


@dataclass(frozen=True)
class Store:
    """Columns that are found by a key. They are read into memory when they are first needed.

    Attributes:
        parts: The parts that hold them.
        key: Name of the column whose values find a row. They are unique.
        shared: The columns.
    """

    parts: Sequence[Part]
    key: str
    shared: tuple[str, ...]

    @property
    def fields(self) -> list[pa.Field]:
        """The columns' names and types."""
        schema = self.parts[0].schema
        return [schema.field(column) for column in self.shared]

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the parts' content."""
        return hashlib.sha256(b"".join(part.fingerprint for part in self.parts)).digest()

    def found(self, column: str, keys: pa.Array) -> pa.Array:
        """Return the values of a column for some keys."""
        return self._columns[column].take(pc.index_in(keys, value_set=self._columns[self.key]))

    @cached_property
    def _columns(self) -> dict[str, pa.Array]:
        columns = [self.key, *self.shared]
        batches = [batch for part in self.parts for batch in part.batches(columns, 2**16)]
        table = pa.Table.from_batches(batches)
        return {column: table[column].combine_chunks() for column in columns}


@dataclass(frozen=True)
class JoinedPart(WrappedPart):
    """The rows of a part, with the columns of a store.

    Attributes:
        part: The rows. They have the key's column.
        store: The columns that are found by it.
    """

    store: Store

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, those of the store among them."""
        return pa.schema([*self.part.schema, *self.store.fields])

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the content of the part and of the store."""
        return hashlib.sha256(self.part.fingerprint + self.store.fingerprint).digest()

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        key, shared = self.store.key, self.store.shared
        own = [key, *(column for column in columns if column not in (key, *shared))]
        for batch in self.part.batches(own, rows):
            found = {c: self.store.found(c, batch[key]) if c in shared else batch[c] for c in columns}
            yield pa.record_batch(found)
