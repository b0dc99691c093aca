"""The interface of readers: a reader turns what is at a path into parts of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import pyarrow as pa

from trainables.reading_settings import ReadingSettings
from trainables.registry import Registry

#: The split of parts whose source does not say which split they are.
ALL = "all"


class Part(Protocol):
    """Some rows of a dataset, usually those of one file. They are read on demand."""

    @property
    def name(self) -> str:
        """What the user calls it, for messages: a file's name."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """A hash of the content."""
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the part is damaged.
        """
        ...

    def word(self, row: int) -> str | None:
        """Return what the user calls a row, such as ``captions.csv line 14``; None for its number."""
        ...


@dataclass(frozen=True)
class Found:
    """What a reader has found.

    Attributes:
        parts: The parts of each split, or of ``ALL``. Where validation or test is missing, their rows are
            taken from the others'.
        folder: The folder that paths in cells are relative to.
        metadata: What the source says about its columns, as the schema's metadata of our own layout do:
            ``paretofuse.modalities``, ``paretofuse.label``, ``paretofuse.classes``, ``paretofuse.task`` …
        notes: What the user should know, a sentence each.
        untyped: Whether all cells are texts, as in CSV, so that the labels' type is how they are written.
        format: Name of the reader, which ``read_path`` fills in; empty for rows that no reader has read.
    """

    parts: Mapping[str, Sequence[Part]]
    folder: Path
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    untyped: bool = False
    format: str = ""


class Reader(ABC):
    """Reads datasets of one format. It has no state."""

    #: Name of the format, for ``--format NAME`` and ``--dataset NAME:PATH``.
    name: ClassVar[str]

    #: One line for listings.
    description: ClassVar[str]

    #: Readers of a higher rank are asked for a path only if none of a lower one recognises it.
    rank: ClassVar[int] = 0

    #: Whether addresses have a path after the format's name, and not a name that only the reader knows.
    of_paths: ClassVar[bool] = True

    def recognises(self, path: Path) -> bool:
        """Return whether what is at an existing path is of this format, without reading much.

        At most one reader of a rank may recognise a path. Those that only a name selects recognise none.
        """
        return False

    @abstractmethod
    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows at a path.

        Args:
            name: The dataset's name in error messages.
            path: The path, which exists; or the name, for a reader that is not of paths.
            settings: What the user says about reading.

        Raises:
            UserError: If the files are not of the format or damaged. The message names the file.
        """


#: The readers by name.
READERS: Registry[Reader] = Registry("format")


def register_reader(kind: type[Reader]) -> type[Reader]:
    """Register a class of readers under its name."""
    READERS.register(kind.name, kind(), kind.__module__)
    return kind
