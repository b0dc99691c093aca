"""Tables that stand beside pictures or sounds, and name them in a column ``file_name``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from trainables.data.readers.base import ALL, Part
from trainables.data.readers.finding import readers_of
from trainables.data.readers.tables import taken
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

_FILE_NAME = "file_name"  # or one that ends in _file_name, for a modality of that name

_READ = 65_536  # rows read at a time


@dataclass(frozen=True)
class Listed:
    """Rows that name files.

    Attributes:
        name: What the user calls them, for messages.
        table: The rows. Paths are relative to the dataset's folder.
        folders: The folders that hold the file of each row (N,), outermost first; those of the table for a
            row that has none.
        split: The split that the table says.
        words: What the user calls each row; None counts them.
    """

    name: str
    table: pa.Table
    folders: Sequence[tuple[str, ...]]
    split: str = ALL
    words: Sequence[str] | None = None

    def take(self, rows: np.ndarray) -> Listed:
        """Return the rows with these numbers (R,)."""
        words = None if self.words is None else [self.words[row] for row in rows]
        folders = [self.folders[row] for row in rows]
        return Listed(self.name, taken(self.table, rows), folders, self.split, words)


def folders_of(path: str) -> tuple[str, ...]:
    """Return the names of the folders that hold a file, outermost first."""
    return PurePosixPath(path).parts[:-1]


def read_metadata(
    name: str, folder: Path, file: str, kind: str, settings: ReadingSettings
) -> tuple[list[Listed], set[str], tuple[str, ...], bool]:
    """Return the rows of a table beside files.

    Args:
        name: The dataset's name in error messages.
        folder: The dataset's folder.
        file: The table's path, relative to it.
        kind: The kind of the files that the column ``file_name`` names, and the name of their column.
        settings: What the user says about reading.

    Returns:
        The rows, the paths of the files that they name, what the user should know, and whether all cells are
        texts.

    Raises:
        UserError: If the table cannot be read, or has no column of names.
    """
    path = folder / file
    found = readers_of(path)[0].read(name, path, settings)
    listed, named = [], set[str]()
    for split, parts in found.parts.items():
        for part in parts:
            each, files = _listed(name, part, file, split, kind)
            listed.append(each)
            named |= files
    return listed, named, found.notes, found.untyped


def _listed(name: str, part: Part, file: str, split: str, kind: str) -> tuple[Listed, set[str]]:
    where = f"dataset '{name}': {file}"
    columns = {
        column: kind if column == _FILE_NAME else column.removesuffix(f"_{_FILE_NAME}")
        for column in part.schema.names
        if column == _FILE_NAME or column.endswith(f"_{_FILE_NAME}")
    }
    if not columns:
        there = ", ".join(part.schema.names)
        raise UserError(f"{where} has no column '{_FILE_NAME}', which names the files; its columns: {there}")
    renamed = [columns.get(column, column) for column in part.schema.names]
    if twice := next((column for column in renamed if renamed.count(column) > 1), None):
        raise UserError(f"{where} has two columns for '{twice}', one of them with names of files; rename one")
    table = pa.Table.from_batches(part.batches(part.schema.names, _READ), part.schema)
    parent = PurePosixPath(file).parent
    named: set[str] = set()
    first: list[str | None] | None = None
    for column, modality in columns.items():
        paths = [_path(where, column, parent, value) for value in table[column].to_pylist()]
        named.update(filter(None, paths))
        place = table.schema.get_field_index(column)
        table = table.set_column(place, modality, pa.array(paths, pa.string()))
        if first is None or modality == kind:
            first = paths
    assert first is not None, "there is a column"
    folders = [parent.parts if path is None else folders_of(path) for path in first]
    words = [part.word(row) or f"{part.name} row {row}" for row in range(table.num_rows)]
    words = ["/".join((*parent.parts, word)) for word in words]
    return Listed(file, table, folders, split, words), named


def _path(where: str, column: str, parent: PurePosixPath, value: object) -> str | None:
    """Return the path of a file, relative to the dataset's folder; None if there is no name."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UserError(f"{where}: column '{column}' has {value!r}; expected names of files")
    return PurePosixPath(os.path.normpath(parent / value)).as_posix()
