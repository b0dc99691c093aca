"""Where a dataset's rows come from: Parquet files, or rows made from those of another dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.errors import UserError

SPLITS = ("train", "validation", "test")


class Rows(Protocol):
    """The rows of a dataset's splits. They are read on demand."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the rows' schema says about them, with keys ``paretofuse.…``."""
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


@dataclass(frozen=True)
class ParquetRows:
    """Rows in Parquet files.

    Attributes:
        name: The dataset's name in error messages.
        files: The files of each split, in the order of ``SPLITS``.
    """

    name: str
    files: dict[str, tuple[Path, ...]]

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the schema of the first training file says."""
        raw = self.schema(self.files["train"][0]).metadata or {}
        ours = {key: value for key, value in raw.items() if key.startswith(b"paretofuse.")}
        return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in ours.items()}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' content."""
        digest = hashlib.sha256()
        for split, paths in self.files.items():
            for path in paths:
                with path.open("rb") as file:
                    digest.update(split.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def schema(self, path: Path) -> pa.Schema:
        """Return the schema of a file."""
        with self._reading(path):
            return pq.read_schema(path)

    def schemas(self) -> dict[Path, pa.Schema]:
        """Return the schema of each file of the splits, in their order."""
        return {path: self.schema(path) for split in SPLITS for path in self.files[split]}

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        rows = 0
        for path in self.files[split]:
            with self._reading(path):
                rows += pq.read_metadata(path).num_rows
        return rows

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        for path in self.files[split]:
            with self._reading(path):
                for batch in pq.ParquetFile(path).iter_batches(batch_size=rows, columns=columns):
                    batch.validate(full=True)
                    yield batch

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Raise ``UserError`` if reading a file fails."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"dataset '{self.name}': {path.name} is not a Parquet file that can be read"
            ) from error


@dataclass(frozen=True)
class SomeRows:
    """Some of the rows of a dataset, in the same order.

    Attributes:
        rows: All rows.
        kept: For each split, the numbers of the rows that are kept, ascending, shape (N,).
    """

    rows: Rows
    kept: Mapping[str, np.ndarray]

    @property
    def metadata(self) -> dict[str, str]:
        """What the schema of the rows says."""
        return self.rows.metadata

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the rows, and of which are kept."""
        digest = hashlib.sha256(self.rows.fingerprint.encode())
        for split in SPLITS:
            digest.update(split.encode() + self.kept[split].astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def count(self, split: str) -> int:
        """Return the number of kept rows of a split."""
        return len(self.kept[split])

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the kept rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        kept, done = self.kept[split], 0
        for batch in self.rows.batches(split, columns, rows):
            first, last = np.searchsorted(kept, [done, done + batch.num_rows])
            if first < last:
                yield batch.take(pa.array(kept[first:last] - done))
            done += batch.num_rows
