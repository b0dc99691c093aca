"""Rows whose columns have the paths of files, read as if they had the files' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from trainables.data.rows import SPLITS, Rows
from trainables.errors import UserError

_READ = 512  # rows whose paths are read at a time


@dataclass(frozen=True)
class FileRows:
    """Rows some of whose columns have paths of files, relative to a folder.

    Attributes:
        name: The dataset's name in error messages.
        rows: The rows, with paths.
        folder: The folder.
        paths: The columns with paths.
    """

    name: str
    rows: Rows
    folder: Path
    paths: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """What the schema of the rows says."""
        return self.rows.metadata

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the rows, and of the content of the files that they name.

        Raises:
            UserError: If a file cannot be read.
        """
        digest = hashlib.sha256(self.rows.fingerprint.encode())
        seen: set[str] = set()
        for split in SPLITS:
            for row, path in self._named(split):
                if path not in seen:
                    seen.add(path)
                    digest.update(hashlib.sha256(self._content(path, split, row)).digest())
        return digest.hexdigest()[:16]

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return self.rows.count(split)

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged or cannot be read.
        """
        done = 0
        for batch in self.rows.batches(split, columns, rows):
            for column in set(self.paths) & set(columns):
                contents = [
                    self._content(value, split, row) if isinstance(value, str) else value
                    for row, value in enumerate(batch[column].to_pylist(), done)
                ]
                place = batch.schema.names.index(column)
                batch = batch.set_column(place, column, pa.array(contents, pa.large_binary()))
            done += batch.num_rows
            yield batch

    def _named(self, split: str) -> Iterator[tuple[int, str]]:
        """Yield the paths of a split, each with the number of its row."""
        done = 0
        for batch in self.rows.batches(split, list(self.paths), _READ):
            for column in self.paths:
                for row, value in enumerate(batch[column].to_pylist(), done):
                    if isinstance(value, str):
                        yield row, value
            done += batch.num_rows

    def _content(self, path: str, split: str, row: int) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(
                f"dataset '{self.name}', {split} row {row}: '{path}' is no file in {self.folder} that can be "
                "read"
            ) from error
