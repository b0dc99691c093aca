"""Parts whose rows are a table in memory, and rows whose split is in a column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from trainables.data.readers.base import ALL, Part
from trainables.data.readers.naming import SPLIT_NAMES, split_files, split_named, unread
from trainables.data.readers.parts import WrappedPart
from trainables.errors import UserError
from trainables.tasks.labels import is_text

#: Columns that may say the split of a row, in lower case. Only the first is expected to say nothing else.
_COLUMNS = ("split", "set", "subset", "partition")

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)

_READ = 65_536  # rows whose split is read at a time


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
        sink = pa.BufferOutputStream()
        table = self.table.combine_chunks()  # so that it does not depend on how rows came
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return hashlib.sha256(sink.getvalue()).digest()

    def count(self) -> int:
        """Return the number of rows."""
        return self.table.num_rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows."""
        yield from self.table.select(columns).to_batches(max_chunksize=rows)

    def word(self, row: int) -> str | None:
        """Return what the user calls a row."""
        return None if self.words is None else self.words[row]


def taken(rows: _Rows, numbers: np.ndarray) -> _Rows:
    """Return some rows of a batch or table, by their numbers (N,)."""
    try:
        return rows.take(pa.array(numbers))
    except pa.ArrowNotImplementedError:  # for views, which also lists and structs may hold
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        slices = [rows.slice(int(run[0]), len(run)) for run in runs if len(run)]
        join = pa.concat_batches if isinstance(rows, pa.RecordBatch) else pa.concat_tables
        return join(slices or [rows.slice(0, 0)])


def kept_of(batches: Iterable[pa.RecordBatch], kept: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield those rows of batches that are kept, by their numbers over all batches, ascending (N,)."""
    done = 0
    for batch in batches:
        first, last = np.searchsorted(kept, [done, done + batch.num_rows])
        if first < last:
            yield taken(batch, kept[first:last] - done)
        done += batch.num_rows


def with_equal_names(parts: Mapping[str, Sequence[TablePart]]) -> dict[str, list[Part]]:
    """Return tables whose columns are called as those of the first one, if they differ in case only."""
    first = next(part for own in parts.values() for part in own).table.column_names
    known = {name.casefold(): name for name in first}
    found: dict[str, list[Part]] = {}
    for split, own in parts.items():
        for part in own:
            names = [known.get(name.casefold(), name) for name in part.table.column_names]
            same = len({*names}) < len(names)  # it has columns that differ in case only
            table = part.table if same else part.table.rename_columns(names)
            found.setdefault(split, []).append(replace(part, table=table))
    return found


class Numbered(Sequence[str]):
    """Words for rows that are numbered in a file: ``captions.csv line 14``.

    Args:
        before: What stands before the number.
        numbers: The numbers of the rows (N,).
    """

    def __init__(self, before: str, numbers: Sequence[int]) -> None:
        self._before = before
        self._numbers = np.asarray(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        return f"{self._before} {self._numbers[row]}"


@dataclass(frozen=True)
class SomePart(WrappedPart):
    """Some of the rows of a part, in the same order.

    Attributes:
        part: All rows.
        kept: The numbers of those that are kept, ascending, shape (N,).
        by: The column that says which are kept, and which they lack.
    """

    kept: np.ndarray
    by: str

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return pa.schema(
            [field for field in self.part.schema if field.name != self.by], self.part.schema.metadata
        )

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the part's content, and of which rows are kept."""
        return hashlib.sha256(self.part.fingerprint + self.kept.astype("<i8").tobytes()).digest()

    def count(self) -> int:
        """Return the number of rows that are kept."""
        return len(self.kept)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the kept rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the part is damaged.
        """
        return kept_of(self.part.batches(columns, rows), self.kept)

    def word(self, row: int) -> str | None:
        """Return what the user calls a row."""
        number = int(self.kept[row])
        return self.part.word(number) or f"{self.part.name} row {number}"


def read_tables(
    name: str,
    path: Path,
    endings: tuple[str, ...],
    read: Callable[[str, Path], tuple[TablePart, list[str]]],
    taken: Sequence[str],
) -> tuple[dict[str, list[Part]], tuple[str, ...]]:
    """Return the tables of a file, or of a folder with files for each split, as ``by_split_column`` does.

    Args:
        name: The dataset's name in error messages.
        path: The file or folder.
        endings: How the names of files end.
        read: Returns the table of a file, and what the user should know.
        taken: Columns that have another meaning.
    """
    files = split_files(name, path, endings) if path.is_dir() else {ALL: (path,)}
    notes = [*(unread(path, endings, files) if path.is_dir() else ())]
    parts: dict[str, list[TablePart]] = {}
    for split, paths in files.items():
        for file in paths:
            part, remarks = read(name, file)
            parts.setdefault(split, []).append(part)
            notes += remarks
    found, said = by_split_column(name, with_equal_names(parts), taken)
    return found, (*notes, *said)


def by_split_column(
    name: str, parts: Mapping[str, Sequence[Part]], taken: Sequence[str] = ()
) -> tuple[dict[str, list[Part]], tuple[str, ...]]:
    """Return parts with the rows of each split, where a column says which it is.

    The column is called split, set, subset or partition, and has the names of splits.

    Args:
        name: The dataset's name in error messages.
        parts: The parts of each split, or of ``ALL``.
        taken: Columns that have another meaning.

    Returns:
        The parts, and what the user should know. Parts without such a column stay as they are.

    Raises:
        UserError: If a value is no name of a split, or is another one than that of the file.
    """
    found: dict[str, list[Part]] = {}
    notes: list[str] = []
    for split, own in parts.items():
        for part in own:
            column = _split_column(name, part, taken, named=split != ALL)
            if column is None:
                found.setdefault(split, []).append(part)
                continue
            if split != ALL:
                _check_same(name, part, column, split)
                found.setdefault(split, []).append(part)
                continue
            splits = _splits(name, part, column)
            notes.append(f"column '{column}' says the split of each row")
            for number, each in enumerate(SPLIT_NAMES):
                rows = np.flatnonzero(splits == number)
                if len(rows):
                    found.setdefault(each, []).append(SomePart(part, rows, column))
    if ALL in found and len(found) > 1:
        raise UserError(
            f"dataset '{name}': {found[ALL][0].name} has no column that says the split of each row, and "
            "other files have one"
        )
    return found, tuple(dict.fromkeys(notes))


def _split_column(name: str, part: Part, taken: Sequence[str], *, named: bool) -> str | None:
    """Return the column that says the split of a part's rows; None if there is none.

    Args:
        name: The dataset's name in error messages.
        part: The part.
        taken: Columns that have another meaning.
        named: Whether the part's own name says its split, so that the column may be about something else.

    Raises:
        UserError: If the column says something else in some rows.
    """
    others = {word.strip().casefold() for word in taken}
    for field in part.schema:
        column, word = field.name, field.name.strip().casefold()
        if word not in _COLUMNS or word in others or part.schema.names.count(column) > 1:
            continue
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (is_text(kind) or pa.types.is_integer(kind)):
            continue
        values = [value for batch in _read(part, column) for value in batch[column].unique().to_pylist()]
        known = [value for value in values if _split(value)]
        if values and len(known) == len(values):
            return column
        if values and not named and (known or word == _COLUMNS[0]):
            advice = "write train, validation or test"
            raise _other_split(name, part, column, lambda value: not _split(value), advice)
    return None


def _splits(name: str, part: Part, column: str) -> np.ndarray:
    """Return the number of each row's split (N,), in the order of ``SPLIT_NAMES``."""
    order = list(SPLIT_NAMES)
    numbers = []
    for batch in _read(part, column):
        encoded = batch[column].dictionary_encode()
        of_value = [order.index(split_named(value) or "") for value in encoded.dictionary.to_pylist()]
        numbers.append(np.array(of_value, dtype=np.int64)[encoded.indices.to_numpy()])
    return np.concatenate(numbers)


def _check_same(name: str, part: Part, column: str, split: str) -> None:
    """Refuse a part of one split whose column says another one.

    Raises:
        UserError: If a row says another split.
    """
    values = {_split(value) for batch in _read(part, column) for value in batch[column].unique().to_pylist()}
    if values != {split}:
        advice = f"the file's name says {split}; rename the file or the column"
        raise _other_split(name, part, column, lambda value: _split(value) != split, advice)


def _split(value: object) -> str | None:
    return split_named(value) if isinstance(value, str) else None


def _other_split(
    name: str, part: Part, column: str, is_other: Callable[[object], bool], advice: str
) -> UserError:
    """Return the error for the first row whose split is another than it may be."""
    cells = (cell for batch in _read(part, column) for cell in batch[column].to_pylist())
    row, value = next((row, cell) for row, cell in enumerate(cells) if is_other(cell))
    word = part.word(row) or f"{part.name} row {row}"
    return UserError(f"dataset '{name}': {word}: column '{column}' is {value!r}; {advice}")


def _read(part: Part, column: str) -> Iterator[pa.RecordBatch]:
    """Yield a column of a part, without its dictionary."""
    for batch in part.batches([column], _READ):
        values = batch[column]
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        yield pa.record_batch({column: values})
