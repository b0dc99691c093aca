"""The interface of kinds."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.cache import build_once, cache_dir
from trainables.data.contents import missing_end, what_is
from trainables.data.encoded import encoded_bytes, is_encoded
from trainables.data.warned import heard
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes

T = TypeVar("T")

if TYPE_CHECKING:
    from trainables.data.source import Dataset


_SHOWN = 120  # characters of a path that a message shows


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of a content that cannot be read.

    Attributes:
        reason: Why, in words by which such contents are counted: "no such file in pictures".
        detail: What differs between contents of one reason: "ends after 512 bytes".
    """

    reason: str
    detail: str = ""


class UnreadableError(Exception):
    """A content cannot be read.

    Args:
        reason: See ``Unreadable``.
        detail: See ``Unreadable``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.content = Unreadable(reason, detail)


#: What one cell holds: a text, the bytes of a file, vectors (T, F), None if the value is missing, or why it
#: cannot be read.
Content = str | bytes | np.ndarray | Unreadable | None


class Converted(NamedTuple):
    """Cells as they are stored.

    Attributes:
        columns: Their values by column. What cannot be read has the values of the blank.
        bad: The places of what cannot be read, with the reasons.
        warned: The places of what was read with a warning, with the warnings.
    """

    columns: dict[str, pa.Array]
    bad: Mapping[int, Unreadable] = MappingProxyType({})
    warned: Mapping[int, Sequence[str]] = MappingProxyType({})


#: Function of the contents of cells, none of which is ``Unreadable``.
Convert = Callable[[list[Content]], Converted]

#: What is known of the cells of one modality: sizes and numbers that its stored values depend on; JSON.
Facts = Mapping[str, Any]


class Kind(ABC):
    """A kind of modality. It has no state: what it needs to know of a modality are the modality's ``Facts``.

    A value that is missing becomes the *blank*: an empty text, the mean image, silence, vectors of zeros. The
    blank is a cell like any other.
    """

    #: Name of the kind, which is that of the encoders' modality.
    name: ClassVar[str]

    #: One value, in words.
    noun: ClassVar[str]

    #: The columns that it takes, in words, for error messages.
    expected: ClassVar[str]

    #: Whether its values are files, so that a column of strings may have their paths.
    of_files: ClassVar[bool] = False

    #: The column of stored cells that augmentations of images change; None if it is no image.
    pixels: ClassVar[str | None] = None

    @abstractmethod
    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""

    @abstractmethod
    def contents(self, values: pa.Array) -> list[Content]:
        """Return the contents of some cells; None for a value that is missing, and why one is unreadable."""

    @abstractmethod
    def content(self, value: Any) -> Content:
        """Return the content of a value that a user gives, and why it is unreadable if it is.

        Args:
            value: The value; None is a missing one.
        """

    @abstractmethod
    def facts(
        self,
        dataset: Dataset,
        modality: str,
        encoder: EncoderSource,
        sizes: InputSizes,
        reading: ReadingSettings,
    ) -> Facts:
        """Return what the stored values of a modality depend on, beside the dataset's content."""

    @abstractmethod
    def schema(self, facts: Facts) -> pa.Schema:
        """Return the columns of stored cells."""

    @abstractmethod
    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that gives the stored columns of some contents.

        Args:
            encoder: The encoder, for its tokeniser and such.
            facts: The facts of the modality.
            pool: Threads that decode.
        """

    @abstractmethod
    def cell_bytes(self, facts: Facts) -> int:
        """Return the bytes that a stored cell takes."""

    @abstractmethod
    def views(self, batch: pa.RecordBatch, facts: Facts) -> dict[str, np.ndarray]:
        """Return stored columns as arrays of shape (C, …), one entry for each cell, without a copy."""

    @abstractmethod
    def inputs(self, cells: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Tensor]:
        """Return an encoder's inputs for the cells whose columns are given, each of shape (B, …)."""

    def mask(self, cells: Mapping[str, np.ndarray], facts: Facts) -> Tensor | None:
        """Return a mask (B, T) of the encoder's tokens that is True for what is no padding.

        Args:
            cells: The columns of shape (C,) alone, so that no large value is read for it.
            facts: The facts of the modality.

        Returns:
            The mask; None if nothing is padded.
        """
        return None

    def trimmed(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs without the padding that all samples have in common, as far as steps allow it."""
        return inputs


_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)


def holds_files(column: pa.DataType) -> bool:
    """Return whether a column of this type may hold the bytes of files: of binary type, or in ``bytes``."""
    if pa.types.is_struct(column):
        return column.get_field_index("bytes") >= 0 and holds_files(column.field("bytes").type)
    return any(check(column) for check in _BINARY)


def file_bytes(value: Any) -> bytes | Unreadable | None:
    """Return the bytes of a file, whose value is binary or a struct with a ``bytes`` field.

    A struct with an ``error`` says why the file cannot be read.
    """
    if not isinstance(value, dict):
        return value
    return Unreadable(value["error"]) if value.get("error") is not None else value.get("bytes")


def file_content(value: Any, also: str = "") -> Content:
    """Return the bytes of a file that a user gives: as bytes, by its path, or as a text that encodes them.

    Args:
        value: The value; None is a missing one.
        also: What else would be accepted, in words.
    """
    if value is None:
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str) and is_encoded(value):
        try:
            return encoded_bytes(value)
        except ValueError:
            return Unreadable("a base64 text that is damaged")
    if not isinstance(value, str | os.PathLike):
        return not_taken(value, f"a path or bytes{also}")
    try:
        return Path(value).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Unreadable("a file that cannot be opened", f"{str(value)[:_SHOWN]}: {why}")


def not_taken(value: Any, accepted: str) -> Unreadable:
    """Return why a value of a wrong type is unreadable."""
    return Unreadable(f"a value of the type {type(value).__name__}", f"accepted: {accepted}")


class Decoded(NamedTuple, Generic[T]):
    """What was made of a content.

    Attributes:
        value: The value.
        bad: Why it cannot be read; the value is the blank then.
        warned: What was warned of.
    """

    value: T
    bad: Unreadable | None = None
    warned: Sequence[str] = ()


def decoded(
    pool: Executor, decode: Callable[[Any], T], contents: list[Content], blank: T
) -> Iterator[Decoded[T]]:
    """Yield what a function makes of each content, in their order, while it runs for the next ones.

    Args:
        pool: The threads in which it runs.
        decode: The function. It raises ``UnreadableError``.
        contents: The contents.
        blank: The value of what is missing or cannot be read.
    """

    def tried(content: Content) -> Decoded[T]:
        if content is None:
            return Decoded(blank)
        with heard() as lines:
            try:
                return Decoded(decode(content), warned=lines)
            except UnreadableError as error:
                return Decoded(blank, error.content)
            except MemoryError:  # a damaged file may ask for any amount
                return Decoded(blank, Unreadable("needs more memory than there is"))

    return pool.map(tried, contents)


def not_decoded(data: bytes, wanted: str, error: Exception) -> UnreadableError:
    """Return the error for bytes that do not decode; it says what they are.

    Args:
        data: The bytes.
        wanted: What they should be: ``picture`` or ``sound``.
        error: What the decoder says.
    """
    found, which = what_is(data)
    if found != wanted:
        return UnreadableError(which, f"begins with {data[:12]!r}" if found == "unknown" else "")
    if end := missing_end(data):
        return UnreadableError(f"{which} that is cut off", end)
    said = " ".join(str(error).split())
    if "cannot identify" in said:  # with the address of an object
        return UnreadableError(f"{which} that is damaged or cannot be decoded here")
    return UnreadableError(f"{which} that is damaged", said)


def first_ones(lengths: np.ndarray | Tensor, most: int) -> Tensor:
    """Return a mask (B, ``most``) that is True for the first ``lengths`` (B,) places of the rows."""
    return torch.arange(most)[None] < torch.as_tensor(lengths)[:, None]


def measured(dataset: Dataset, modality: str, salt: str, measure: Callable[[], Any]) -> Any:
    """Return what a function finds in a dataset's column, which is kept for the next time.

    Args:
        dataset: The dataset.
        modality: Name of the modality.
        salt: What the result depends on beside the column, and a word for what it is.
        measure: The function. Its result is JSON.
    """
    what = json.dumps([dataset.fingerprint, dataset.modalities[modality].column, salt])
    path = cache_dir() / "columns" / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"

    def build(target: Path) -> None:
        target.write_text(json.dumps(measure()))

    build_once(path, build)
    return json.loads(path.read_text())
