"""The distinct inputs of one modality of a split, each stored once in an Arrow file.

The same picture or text may occur in many rows: with each of its captions, questions or hypotheses. The first
cell of every file is the blank, which stands for a value that is missing.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.data.kinds import Content, Convert, Facts, Kind, Unreadable
from trainables.errors import UserError

#: Number of the cell that stands for a value that is missing.
BLANK = 0

_LOT = 512  # cells in a batch of a file, so that a cell's number determines its place


class CellWriter:
    """Writes the blank and then the distinct cells of one modality of a split, as they first occur.

    In memory it keeps a hash of each distinct cell, and at most ``_LOT`` contents.

    Args:
        writer: Writes to the Arrow file.
        convert: Gives the cells' values by column.
    """

    def __init__(self, writer: pa.RecordBatchWriter, convert: Convert) -> None:
        self._writer = writer
        self._convert = convert
        self._numbers: dict[bytes, int] = {digest(None): BLANK}
        self._contents: list[Content] = [None]
        self._rows: list[str] = ["the blank"]

    def add(self, contents: Iterable[Content], rows: Iterable[str]) -> pa.Array:
        """Take the cells of the next rows.

        Args:
            contents: The cells.
            rows: A word for each row, for error messages.

        Returns:
            The number of each row's cell.
        """
        numbers = []
        for content, row in zip(contents, rows, strict=True):
            if isinstance(content, Unreadable):
                raise UserError(f"{row}: {content.reason}")
            new = len(self._numbers)
            number = self._numbers.setdefault(digest(content), new)
            numbers.append(number)
            if number == new:
                self._contents.append(content)
                self._rows.append(row)
            if len(self._contents) == _LOT:
                self.flush()
        return pa.array(numbers, pa.int32())

    def flush(self) -> None:
        """Write the cells that are not yet written."""
        if self._contents:
            self._writer.write(pa.record_batch(self._convert(self._contents, self._rows)))
            self._contents, self._rows = [], []


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
    if isinstance(content, np.ndarray):
        data = repr(content.shape).encode() + content.tobytes()
    elif isinstance(content, Unreadable):
        data = content.reason.encode()
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
