"""Parts whose rows have sequences of vectors, which lie padded in arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.data.readers.opening import file_hash

_AT_ONCE = 256  # rows whose numbers are looked at together


def sequence_type(size: int) -> pa.DataType:
    """Return the type of a column of sequences of vectors with ``size`` numbers each."""
    return pa.list_(pa.list_(pa.float32(), size))


def sequence_column(rows: Sequence[np.ndarray | None], size: int) -> pa.Array:
    """Return a column of sequences.

    Args:
        rows: Each row's vectors (T, ``size``); None is a missing value.
        size: The numbers of a vector.
    """
    there = [row for row in rows if row is not None]
    # Numbers that are not finite are refused where rows are read
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.concatenate([np.zeros((0, size)), *there], dtype=np.float32, casting="same_kind")
    lengths = [0 if row is None else len(row) for row in rows]
    return pa.ListArray.from_arrays(
        pa.array(np.cumsum([0, *lengths]), pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), size),
        mask=pa.array([row is None for row in rows], pa.bool_()),
    )


def without_padding(vectors: np.ndarray) -> np.ndarray | None:
    """Return vectors (T, F) without those at both ends that are all zeros; None if all of them are."""
    there = np.flatnonzero(vectors.any(axis=1))
    return vectors[there[0] : there[-1] + 1] if len(there) else None


@dataclass(frozen=True)
class Padded:
    """Sequences that lie in one array, with zeros around them or behind them.

    Attributes:
        values: The array, shape (N, T, F). Of its numbers, ``-inf`` and NaN stand for 0.
        first: Where each sequence begins, shape (N,).
        last: The place behind its end, shape (N,). It is ``first`` for a sequence that is missing.
    """

    values: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def size(self) -> int:
        """The numbers of a vector."""
        return self.values.shape[2]

    def column(self, start: int, stop: int) -> pa.Array:
        """Return the sequences of some rows."""
        rows: list[np.ndarray | None] = []
        for row in range(start, min(stop, len(self.values))):
            first, last = self.first[row], self.last[row]
            vectors = self.values[row, first:last]
            rows.append(np.where(_to_zero(vectors), 0, vectors) if first < last else None)
        return sequence_column(rows, self.size)


def unpadded(
    arrays: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray], mask: Mapping[str, np.ndarray]
) -> tuple[dict[str, Padded], dict[str, int]]:
    """Find the sequences in arrays.

    Vectors of zeros at both ends are padding. If all arrays have the same number of steps and no lengths are
    given, the steps of all of them are the same moments. They stay so: what is cut is padding in all of them.

    Args:
        arrays: Arrays of shape (N, T, F).
        lengths: For some of them, the length of each sequence, shape (N,), instead.
        mask: For some of them, which steps are there, shape (N, T), instead.

    Returns:
        The sequences, and the number of values in each array that are ``-inf`` or NaN and stand for 0.
    """
    there: dict[str, np.ndarray] = {}
    replaced: dict[str, int] = {}
    for name, values in arrays.items():
        replaced[name], parts = 0, []
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            zero = _to_zero(part)
            replaced[name] += int(np.count_nonzero(zero))
            parts.append(((part != 0) & ~zero).any(axis=2))
        there[name] = np.concatenate(parts) if parts else np.zeros(values.shape[:2], bool)
    known: dict[str, np.ndarray] = {**there, **{name: each.astype(bool) for name, each in mask.items()}}
    for name, ends in lengths.items():
        known[name] = np.arange(known[name].shape[1]) < ends[:, None]
    if not lengths and len({each.shape for each in known.values()}) == 1:
        together: np.ndarray = np.logical_or.reduce(list(known.values()))
        known = dict.fromkeys(known, together)
    found = {}
    for name, values in arrays.items():
        steps = known[name]
        some = there[name].any(axis=1) & steps.any(axis=1)
        first = np.where(some, steps.argmax(axis=1), 0)
        last = np.where(some, steps.shape[1] - steps[:, ::-1].argmax(axis=1), 0)
        found[name] = Padded(values, first, last)
    return found, replaced


def _to_zero(values: np.ndarray) -> np.ndarray:
    return ~(values > -np.inf)  # which NaN is not, either


@dataclass(frozen=True)
class SequencePart:
    """Rows of a pickle, with sequences.

    Attributes:
        path: The file from which they are.
        split: What it calls the rows' split.
        others: The columns that are no sequences.
        sequences: The columns that are.
        words: What the file calls each row; None if it does not.
    """

    path: Path
    split: str
    others: pa.RecordBatch
    sequences: Mapping[str, Padded]
    words: Sequence[str] | None

    @property
    def name(self) -> str:
        """The file's name and the split's."""
        return f"{self.path.name} {self.split}"

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        added = [pa.field(name, sequence_type(each.size)) for name, each in self.sequences.items()]
        return pa.schema([*added, *self.others.schema])

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the file, and of which rows of it these are."""
        return hashlib.sha256(file_hash(self.path) + self.split.encode()).digest()

    def count(self) -> int:
        """Return the number of rows."""
        return self.others.num_rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows."""
        for start in range(0, self.count(), rows):
            own = self.others.slice(start, rows)
            yield pa.record_batch(
                {
                    column: self.sequences[column].column(start, start + rows)
                    if column in self.sequences
                    else own[column]
                    for column in columns
                }
            )

    def word(self, row: int) -> str:
        """Return the row's split and name in the file."""
        return f"{self.name} {row if self.words is None else self.words[row]}"
