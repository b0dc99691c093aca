"""Single files of Arrow's own format, which is also that of Feather."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from trainables.data.columns import columns_taken
from trainables.data.readers.base import ALL, Found, Reader, register_reader
from trainables.data.readers.features_of import with_names
from trainables.data.readers.opening import unreadable
from trainables.data.readers.parquet import described_by
from trainables.data.readers.parts import FilePart
from trainables.data.readers.tables import by_split_column
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

_ENDINGS = (".arrow", ".feather", ".ipc")
_FILE = b"ARROW1"  # how a file begins that is no stream


@dataclass(frozen=True)
class ArrowPart(FilePart):
    """The rows of an Arrow file or stream, which is mapped into memory.

    Attributes:
        dataset: The dataset's name in error messages.
        path: The file.
    """

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        with self._reading() as source, _opened(source) as reader:
            return reader.schema

    def count(self) -> int:
        """Return the number of rows."""
        return self._rows

    @cached_property
    def _rows(self) -> int:
        with self._reading() as source, _opened(source) as reader:
            return sum(batch.num_rows for batch in _batches(reader))

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the file is damaged.
        """
        with self._reading() as source, _opened(source) as reader:
            for batch in _batches(reader):
                chosen = batch.select(columns)
                chosen.validate(full=True)
                for first in range(0, chosen.num_rows, rows):
                    yield chosen.slice(first, rows)

    @contextmanager
    def _reading(self) -> Iterator[pa.MemoryMappedFile]:
        """Open the file, and raise ``UserError`` if reading it fails."""
        try:
            with pa.memory_map(str(self.path)) as source:
                yield source
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise unreadable(self.dataset, self.path, "an Arrow file", error) from error


def _opened(source: pa.NativeFile) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    is_file = source.read(len(_FILE)) == _FILE
    source.seek(0)
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _batches(reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


@register_reader
class Arrow(Reader):
    """An Arrow or Feather file."""

    name = "arrow"
    description = "Arrow or Feather file"

    def recognises(self, path: Path) -> bool:
        """Return whether a file's name ends so."""
        return path.is_file() and path.suffix.lower() in _ENDINGS

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the file."""
        if path.is_dir():
            raise UserError(f"dataset '{name}': {path} is a folder; name an Arrow file in it")
        part = ArrowPart(name, path)
        parts, notes = by_split_column(name, {ALL: [with_names(name, part)]}, columns_taken(settings.columns))
        return Found(parts, path.parent, described_by(name, [part]), notes)
