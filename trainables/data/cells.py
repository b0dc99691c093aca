"""The distinct inputs of one modality of a split, each stored once in an Arrow file.

The same picture or text may occur in many rows: with each of its captions, questions or hypotheses. The first
cell of every file is the blank, which stands for a value that is missing.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.data.kinds import Content, Convert, Converted, Facts, Kind, Unreadable
from trainables.units import MIB

#: Number of the cell that stands for a value that is missing.
BLANK = 0

_LOT = 256  # cells in a batch of a file, so that a cell's number determines its place
_AHEAD = 64 * MIB  # contents that are converted together, about


class CellWriter:
    """Writes the blank and then the distinct cells of one modality of a split, as they first occur.

    Cells are converted in other threads while the next ones come. In memory are a hash of each distinct cell,
    the values of at most ``_LOT`` cells, and contents of about twice ``_AHEAD`` bytes.

    Args:
        writer: Writes to the Arrow file.
        convert: Gives the cells' values by column.
        ahead: Runs ``convert``.

    Attributes:
        bad: Why cells cannot be read, by their numbers.
        warned: The first rows of cells that were read with warnings, with the warnings.
    """

    def __init__(self, writer: pa.RecordBatchWriter, convert: Convert, ahead: Executor) -> None:
        self.bad: dict[int, Unreadable] = {}
        self.warned: list[tuple[int, str]] = []
        self._writer = writer
        self._convert = convert
        self._ahead = ahead
        self._numbers: dict[bytes, int] = {}
        self._next = _Part()
        self._converting: tuple[_Part, Future[Converted]] | None = None
        self._lot: list[pa.RecordBatch] = []
        self._take(None, 0)

    def add(self, contents: Iterable[Content], first: int) -> pa.Array:
        """Take the cells of the next rows.

        Args:
            contents: The cells.
            first: Number of the first of these rows.

        Returns:
            The number of each row's cell.
        """
        return pa.array((self._take(content, row) for row, content in enumerate(contents, first)), pa.int32())

    def flush(self) -> None:
        """Write the cells that are not yet written."""
        self._hand_over()
        self._hand_over()
        if self._lot:
            self._write_lot()

    def _take(self, content: Content, row: int) -> int:
        """Return the number of a cell, which is stored if it is new."""
        new = len(self._numbers)
        number = self._numbers.setdefault(digest(content), new)
        if number == new:
            if isinstance(content, Unreadable):
                self.bad[number], content = content, None
            self._next.add(content, number, row)
            if self._next.size >= _AHEAD or len(self._numbers) % _LOT == 0:
                self._hand_over()
        return number

    def _hand_over(self) -> None:
        """Let what was taken be converted, and meanwhile collect what was handed over before."""
        before, self._converting = self._converting, None
        if self._next.contents:
            self._converting = self._next, self._ahead.submit(self._convert, self._next.contents)
            self._next = _Part()
        if before is not None:
            self._collect(*before)

    def _collect(self, part: _Part, future: Future[Converted]) -> None:
        """Wait for cells that are being converted, and write them once their lot is whole."""
        converted = future.result()
        self.bad |= {part.numbers[place]: why for place, why in converted.bad.items()}
        self.warned += [(part.rows[place], line) for place, said in converted.warned.items() for line in said]
        self._lot.append(pa.record_batch(converted.columns))
        if sum(batch.num_rows for batch in self._lot) == _LOT:
            self._write_lot()

    def _write_lot(self) -> None:
        (batch,) = pa.Table.from_batches(self._lot).combine_chunks().to_batches()
        self._writer.write(batch)
        self._lot = []


@dataclass
class _Part:
    """Cells that are converted together: their contents, numbers and first rows; and the contents' bytes."""

    contents: list[Content] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, content: Content, number: int, row: int) -> None:
        self.contents.append(content)
        self.numbers.append(number)
        self.rows.append(row)
        self.size += sys.getsizeof(content)


class Cells:
    """The distinct inputs of one modality of a split, read directly from the memory map.

    Args:
        path: The Arrow file.
        kind: Kind of the modality.
        facts: What is known of the modality.
    """

    def __init__(self, path: Path, kind: Kind, facts: Facts) -> None:
        self.kind = kind
        self._facts = facts
        self._lots = [kind.views(batch, facts) for batch in read_batches(path)]
        self._only: Tensor | None = None

    def __len__(self) -> int:
        if self._only is not None:
            return len(self._only)
        return sum(len(next(iter(lot.values()))) for lot in self._lots)

    def only(self, cells: Tensor) -> Cells:
        """Return some of the cells, numbered from 0 in the order of their numbers here (C,)."""
        some = copy.copy(self)
        some._only = cells
        return some

    def inputs(self, cells: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Return an encoder's inputs for the cells with these numbers (B,), as ``Kind.inputs`` says.

        Args:
            cells: The numbers.
            augment: Function of an image's pixels as they are stored, of shape (B, S, S, 3), that returns
                other ones. The blank stays.
        """
        taken = self._taken(cells, self._lots[0])
        if augment is not None and self.kind.pixels is not None:
            stored = torch.from_numpy(taken[self.kind.pixels])
            blank = (cells == BLANK)[:, None, None, None]
            taken[self.kind.pixels] = torch.where(blank, stored, augment(stored)).numpy()
        return self.kind.inputs(taken, self._facts)

    def mask(self, cells: Tensor) -> Tensor | None:
        """Return a mask that is True for the cells' real tokens, shape (B, T); None if none is padding."""
        narrow = [name for name, values in self._lots[0].items() if values.ndim == 1]
        return self.kind.mask(self._taken(cells, narrow), self._facts)

    def _taken(self, cells: Tensor, columns: Iterable[str]) -> dict[str, np.ndarray]:
        numbers = (cells if self._only is None else self._only[cells]).tolist()
        return {
            column: np.stack([self._lots[cell // _LOT][column][cell % _LOT] for cell in numbers])
            for column in columns
        }


def digest(content: Content) -> bytes:
    """Return a hash of a cell's content; that of an empty cell equals no other."""
    if content is None:
        return b""
    if isinstance(content, Unreadable):
        content = repr(content)
    if isinstance(content, np.ndarray):
        data = repr(content.shape).encode() + content.tobytes()
    else:
        data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=16).digest()


@contextmanager
def writing_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchWriter]:
    """Open a new Arrow file for writing."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield writer


def read_batches(path: Path) -> list[pa.RecordBatch]:
    """Return the batches of an Arrow file, which is mapped into memory."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]
