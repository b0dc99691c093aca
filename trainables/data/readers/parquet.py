"""Folders of Parquet files, one or more for each split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.splits import READ_BYTES, SPLITS
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.units import MIB

_PAGE = MIB  # bytes read of a column at a time


@dataclass(frozen=True)
class ParquetPart:
    """The rows of a Parquet file.

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
    def schema(self) -> pa.Schema:
        """The columns."""
        with self._reading():
            return pq.read_schema(self.path)

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def count(self) -> int:
        """Return the number of rows."""
        with self._reading():
            return pq.read_metadata(self.path).num_rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the file is damaged.
        """
        # Pages are read one by one. A whole row group may be the whole file
        with self._reading(), pq.ParquetFile(self.path, buffer_size=_PAGE) as file:
            most = min(rows, max(1, READ_BYTES // _row_bytes(file.metadata, columns)))
            for batch in file.iter_batches(batch_size=most, columns=columns):
                batch.validate(full=True)
                yield batch

    def word(self, row: int) -> None:
        """Return None: rows of tables have numbers only."""

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise ``UserError`` if reading the file fails."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"dataset '{self.dataset}': {self.name} is not a Parquet file that can be read"
            ) from error


def _row_bytes(metadata: pq.FileMetaData, columns: list[str]) -> int:
    """Return the bytes of a row in some columns, on average over the row group with the largest rows."""
    largest = 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = map(group.column, range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        largest = max(largest, size // max(group.num_rows, 1))
    return largest


@register_reader
class Parquet(Reader):
    """A folder with ``train.parquet``, ``validation.parquet`` and ``test.parquet``, or shards of them."""

    name = "parquet"
    description = "folder of Parquet files, one or more for each split"

    def recognises(self, path: Path) -> bool:
        """Return whether a folder has Parquet files."""
        return path.is_dir() and any(path.glob("*.parquet"))

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the files. What they mean is in the schema of the first training file."""
        parts = {split: _split_parts(name, path, split) for split in SPLITS}
        return Found(parts, path, described_by(parts["train"][0].schema))


def described_by(schema: pa.Schema) -> dict[str, str]:
    """Return what a schema's metadata say about a dataset: the keys ``paretofuse.…``."""
    ours = {k: v for k, v in (schema.metadata or {}).items() if k.startswith(b"paretofuse.")}
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in ours.items()}


def _split_parts(name: str, folder: Path, split: str) -> tuple[ParquetPart, ...]:
    paths = sorted({*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")})
    if not paths:
        raise UserError(f"dataset '{name}': {folder} has no {split}.parquet (nor {split}-*.parquet)")
    return tuple(ParquetPart(name, path) for path in paths)
