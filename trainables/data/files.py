"""Rows whose columns name files, read as if they had the files' bytes."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.cells import digest
from trainables.data.encoded import encoded_bytes, is_encoded
from trainables.data.rows import Rows, SomeRows
from trainables.data.splits import READ_BYTES

_READ = 512  # rows whose paths are read at a time
_SHOWN = 120  # characters of a path that a message shows

#: Where a file's bytes are: its path, and the place of the first one in it.
_Place = tuple[str, int]

#: The cells of a column that names files, once they are read: their bytes, or why they cannot be read.
CELL = pa.struct({"bytes": pa.large_binary(), "error": pa.string()})

_LONGEST = 4096  # characters of a path
#: How the address of a file begins, which is no path.
ADDRESS = re.compile(r"\w+://")

#: Between two files of a cell: the end of a file's name, and what separates it from the next one.
_BETWEEN = re.compile(r"(?<=\w)\s*[|;,]\s*(?=\S)")
_NAME = re.compile(r".+\.\w{2,5}", re.DOTALL)


@dataclass(frozen=True)
class FileRows:
    """Rows some of whose columns name files.

    A cell is a path, relative to a folder; or a struct with ``path``, and with ``offset`` and ``size`` for a
    part of a file, such as a member of a tar archive; or a struct with ``bytes``, which are taken if they are
    there; or a text that encodes the bytes, in base64 or as a data URL. Of a list, or of several paths with |
    or ; between them, the first is taken. An empty path is a missing value.

    Attributes:
        rows: The rows, with paths.
        paths: The columns with paths, and the folder to which each one's are relative.
    """

    rows: Rows
    paths: Mapping[str, Path]
    _known: dict[tuple[str, _Place], bytes | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
                place = place_of(first_of(cell, self.paths[column]))
                if place is None:
                    yield self._digest(column, cell)
                    continue
                if (column, place) not in self._known:
                    self._known[column, place] = self._digest(column, cell)
                yield self._known[column, place]

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
                read.append([self._read(column, cell) for column, cell in zip(named, cells, strict=True)])
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
                    cells = {column: batch[column][row - done].as_py() for column in self.paths}
                    places = [place_of(first_of(cell, self.paths[column])) for column, cell in cells.items()]
                    wanted[row] = "".join(f", {shown(place[0])}" for place in places if place)
            done += batch.num_rows
        return [word + wanted[row] for word, row in zip(self.rows.words(split, rows), rows, strict=True)]

    def _digest(self, column: str, cell: Any) -> bytes | None:
        content = self._read(column, cell) or {"bytes": None, "error": None}
        return digest(content["bytes"]) if content["error"] is None else None

    def _read(self, column: str, cell: Any) -> dict[str, Any] | None:
        """Return a cell of type ``CELL``; None for a value that is missing."""
        folder = self.paths[column]
        cell = first_of(cell, folder)
        if isinstance(cell, dict) and cell.get("bytes") is not None:
            cell = cell["bytes"]
        if isinstance(cell, str) and is_encoded(cell):
            try:
                cell = encoded_bytes(cell)
            except ValueError:
                return {"bytes": None, "error": "a base64 text that is damaged"}
        if isinstance(cell, bytes):
            return {"bytes": cell, "error": None}
        place = place_of(cell)
        if place is None:
            return None
        path, offset = place
        size = cell.get("size") if isinstance(cell, dict) else None
        found = find_file(folder, path)
        if found is None:
            return {"bytes": None, "error": _absence(folder, path)}
        try:
            with found.open("rb") as file:
                file.seek(offset)
                return {"bytes": file.read(-1 if size is None else size), "error": None}
        except (OSError, ValueError) as error:
            # Without the path, so that equal reasons are equal
            why = getattr(error, "strerror", None) or error
            return {"bytes": None, "error": f"cannot be opened ({why})"}


def _with_columns(batch: pa.RecordBatch, columns: list[str], rows: list[list[Any]]) -> pa.RecordBatch:
    """Return a batch with other cells, of type ``CELL``, in some columns."""
    for number, column in enumerate(columns):
        cells = pa.array([row[number] for row in rows], CELL)
        batch = batch.set_column(batch.schema.names.index(column), column, cells)
    return batch


def find_file(folder: Path, path: str) -> Path | None:
    """Return the file that a path names; None if there is none.

    Args:
        folder: The folder to which it is relative.
        path: The path. It may have spaces around it, be written with the backslashes of Windows, write
            letters with accents as one character or as two, and its ending in capitals or not.
    """
    written = [path, path.strip(), path.strip().replace("\\", "/")]
    written += [unicodedata.normalize(form, written[-1]) for form in ("NFC", "NFD")]
    stem, dot, ending = written[2].rpartition(".")
    written += [stem + dot + ending.lower(), stem + dot + ending.upper()]
    for each in dict.fromkeys(written):
        if os.path.isfile(folder / each):  # False for a name that no file can have, too
            return folder / each
    return None


def _absence(folder: Path, path: str) -> str:
    """Say why a path names no file."""
    if ADDRESS.match(path):
        return "the address of a file, which is not fetched"
    if os.path.isdir(folder / path):
        return "a folder, not a file"
    return f"no such file in {folder}"


def first_of(cell: Any, folder: Path) -> Any:
    """Return the first of several files of a cell, or the cell itself."""
    if isinstance(cell, list):
        return cell[0] if cell else None
    if isinstance(cell, str) and len(cell) <= _LONGEST:
        parts = _BETWEEN.split(cell)
        if len(parts) > 1 and all(map(_NAME.fullmatch, parts)) and find_file(folder, cell) is None:
            return parts[0]
    return cell


def some_of(rows: Rows, kept: Mapping[str, np.ndarray], sources: Mapping[str, str]) -> Rows:
    """Return some rows, see ``SomeRows``. Files that only others name are not read."""
    if not isinstance(rows, FileRows):
        return SomeRows(rows, kept, sources)
    some = FileRows(SomeRows(rows.rows, kept, sources), rows.paths)
    some._known.update(rows._known)
    return some


def place_of(cell: Any) -> _Place | None:
    """Return the path that a cell names, and the first byte's place in the file; None if it names none."""
    if isinstance(cell, dict):
        path, offset = cell.get("path"), cell.get("offset") or 0
        return (path, offset) if path and cell.get("bytes") is None else None
    return (cell, 0) if isinstance(cell, str) and cell.strip() and not is_encoded(cell) else None


def shown(path: str) -> str:
    """Return a path as messages show it."""
    return path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
