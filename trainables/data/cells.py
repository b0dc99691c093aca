"""The distinct inputs of one modality of a split, each stored once in an Arrow file.

The same picture or text may occur in many rows: with each of its captions, questions or hypotheses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

#: Content of a cell: a text, the bytes of an image file, or None if the cell is empty.
Content = str | bytes | None

#: Function of the contents of cells, and of a word for the row of each, for error messages. It returns the
#: cells' values by column.
Convert = Callable[[list[Content], list[str]], dict[str, pa.Array]]

_LOT = 512  # cells in a batch of a file, so that a cell's number determines its place


class CellWriter:
    """Writes the distinct cells of one modality of a split, in the order in which they first occur.

    In memory it keeps a hash of each distinct cell, and at most ``_LOT`` contents.

    Args:
        writer: Writes to the Arrow file.
        convert: Gives the cells' values by column.
    """

    def __init__(self, writer: pa.RecordBatchWriter, convert: Convert) -> None:
        self._writer = writer
        self._convert = convert
        self._numbers: dict[bytes, int] = {}
        self._contents: list[Content] = []
        self._rows: list[str] = []

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
        modality: Name of the modality.
        info: Description of the prepared data.
    """

    def __init__(self, path: Path, modality: str, info: Mapping[str, Any]) -> None:
        self._modality = modality
        self._info = info
        self._lots = [self._views(batch) for batch in read_batches(path)]

    def __len__(self) -> int:
        return sum(len(lot[self._modality]) for lot in self._lots)

    def inputs(self, cells: Tensor) -> dict[str, Tensor]:
        """Return an encoder's inputs for the cells with these numbers (B,), see ``PreparedSplit.inputs``."""
        if self._modality == "text":
            ids = torch.from_numpy(self._take("text", cells)).long()
            return {"input_ids": ids, "attention_mask": self._real(cells)}
        pixels = torch.from_numpy(self._take("image", cells)).permute(0, 3, 1, 2)
        mean = torch.tensor(self._info["image_mean"]).view(3, 1, 1)
        std = torch.tensor(self._info["image_std"]).view(3, 1, 1)
        return {"pixel_values": ((pixels.float() / 255 - mean) / std).contiguous()}

    def mask(self, cells: Tensor) -> Tensor | None:
        """Return a mask that is True for the cells' real tokens, shape (B, T); None for images."""
        return self._real(cells) if self._modality == "text" else None

    def _real(self, cells: Tensor) -> Tensor:
        lengths = torch.from_numpy(self._take("text_tokens", cells))
        return torch.arange(self._info["text_length"])[None] < lengths[:, None]

    def _take(self, column: str, cells: Tensor) -> np.ndarray:
        return np.stack([self._lots[cell // _LOT][column][cell % _LOT] for cell in cells.tolist()])

    def _views(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        n, size = batch.num_rows, self._info["image_size"]
        if self._modality == "text":
            ids = batch["text"].flatten().to_numpy().reshape(n, self._info["text_length"])
            return {"text": ids, "text_tokens": batch["text_tokens"].to_numpy()}
        pixels = np.frombuffer(batch["image"].buffers()[1], dtype=np.uint8)
        return {"image": pixels[: n * size * size * 3].reshape(n, size, size, 3)}


def digest(content: Content) -> bytes:
    """Return a hash of a cell's content; that of an empty cell equals no other."""
    if content is None:
        return b""
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()


@contextmanager
def writing_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchWriter]:
    """Open a new Arrow file for writing."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield writer


def read_batches(path: Path) -> list[pa.RecordBatch]:
    """Return the batches of an Arrow file, which is mapped into memory."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]
