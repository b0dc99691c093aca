"""Rows whose columns name files, read as if they had the files' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.cells import digest
from trainables.data.rows import Rows
from trainables.data.splits import READ_BYTES

_READ = 512  # rows whose paths are read at a time

#: Where a file's bytes are: its path, and the place of the first one in it.
_Place = tuple[str, int]

#: The cells of a column that names files, once they are read: their bytes, or why they cannot be read.
CELL = pa.struct({"bytes": pa.large_binary(), "error": pa.string()})


@dataclass(frozen=True)
class FileRows:
    """Rows some of whose columns name files.

    A cell is a path, relative to a folder; or a struct with ``path``, and with ``offset`` and ``size`` for a
    part of a file, such as a member of a tar archive; or a struct with ``bytes``, which are taken if they are
    there. An empty path is a missing value.

    Attributes:
        rows: The rows, with paths.
        folder: The folder.
        paths: The columns with paths.
    """

    rows: Rows
    folder: Path
    paths: tuple[str, ...]
    _known: dict[_Place, bytes | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the rows, and of the content of the files that they name."""
        total = hashlib.sha256(self.rows.fingerprint.encode())
        for split in self.splits:
            for column in self.paths:
                for content in self.digests(split, column):
                    total.update(b"unreadable" if content is None else content)
        return total.hexdigest()[:16]

    def digests(self, split: str, column: str) -> Iterator[bytes | None]:
        """Yield the ``digest`` of each cell of a column that names files; None if it cannot be read.

        Each file is read once, however often digests are asked for.
        """
        for batch in self.rows.batches(split, [column], _READ):
            for cell in batch[column].to_pylist():
                place = _place(cell)
                if place is None:
                    yield self._digest(cell)
                    continue
                if place not in self._known:
                    self._known[place] = self._digest(cell)
                yield self._known[place]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return self.rows.splits

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return self.rows.count(split)

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Columns that name files are of type ``CELL``. A file that cannot be read has an ``error``.

        Raises:
            UserError: If the rows' own file is damaged.
        """
        named = [column for column in columns if column in self.paths]
        for batch in self.rows.batches(split, columns, rows):
            first, read, size = 0, [], 0
            for row, cells in enumerate(zip(*(batch[column].to_pylist() for column in named), strict=True)):
                read.append([self._read(cell) for cell in cells])
                size += sum(len(cell["bytes"] or b"") for cell in read[-1] if cell)
                if size >= READ_BYTES:
                    yield _with_columns(batch[first : row + 1], named, read)
                    first, read, size = row + 1, [], 0
            if first < batch.num_rows:
                yield _with_columns(batch[first:], named, read)

    def words(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return what the user calls some rows of a split, with the files that they name."""
        wanted = dict.fromkeys(rows, "")
        done = 0
        for batch in self.rows.batches(split, list(self.paths), _READ):
            for row in wanted:
                if done <= row < done + batch.num_rows:
                    places = [_place(batch[column][row - done].as_py()) for column in self.paths]
                    wanted[row] = "".join(f", {place[0]}" for place in places if place)
            done += batch.num_rows
        return [word + wanted[row] for word, row in zip(self.rows.words(split, rows), rows, strict=True)]

    def _digest(self, cell: Any) -> bytes | None:
        content = self._read(cell) or {"bytes": None, "error": None}
        return digest(content["bytes"]) if content["error"] is None else None

    def _read(self, cell: Any) -> dict[str, Any] | None:
        """Return a cell of type ``CELL``; None for a value that is missing."""
        if isinstance(cell, bytes):
            return {"bytes": cell, "error": None}
        if isinstance(cell, dict) and cell.get("bytes") is not None:
            return {"bytes": cell["bytes"], "error": None}
        place = _place(cell)
        if place is None:
            return None
        path, offset = place
        size = cell.get("size") if isinstance(cell, dict) else None
        try:
            with (self.folder / path).open("rb") as file:
                file.seek(offset)
                return {"bytes": file.read(-1 if size is None else size), "error": None}
        except FileNotFoundError:
            return {"bytes": None, "error": f"no such file in {self.folder}"}
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error  # without the path, so that equal reasons are equal
            return {"bytes": None, "error": f"cannot be opened ({why})"}


def _with_columns(batch: pa.RecordBatch, columns: list[str], rows: list[list[Any]]) -> pa.RecordBatch:
    """Return a batch with other cells, of type ``CELL``, in some columns."""
    for number, column in enumerate(columns):
        cells = pa.array([row[number] for row in rows], CELL)
        batch = batch.set_column(batch.schema.names.index(column), column, cells)
    return batch


def _place(cell: Any) -> _Place | None:
    """Return the path that a cell names, and the first byte's place in the file; None if it names none."""
    if isinstance(cell, dict):
        path, offset = cell.get("path"), cell.get("offset") or 0
        return (path, offset) if path and cell.get("bytes") is None else None
    return (cell, 0) if isinstance(cell, str) and cell else None
