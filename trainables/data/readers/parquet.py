"""Parquet files: a folder with one or more for each split, or a single one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.columns import DESCRIPTION, columns_taken
from trainables.data.readers.base import ALL, Found, Part, Reader, register_reader
from trainables.data.readers.features_of import class_names, features_of, with_names
from trainables.data.readers.naming import has_files, has_split_files, split_files, unread
from trainables.data.readers.opening import unreadable
from trainables.data.readers.parts import FilePart
from trainables.data.readers.tables import by_split_column
from trainables.data.splits import READ_BYTES
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.units import MIB

_PAGE = MIB  # bytes read of a column at a time

_ENDINGS = (".parquet", ".pq")

#: The folder in which repositories of the Hugging Face hub have their files.
_HUB = "data"

#: The key for what the Hugging Face library says about columns.
_OF_COLUMNS = "paretofuse.columns"

#: Features of the Hugging Face library whose columns are files.
_FILES = {"Image": "image", "Audio": "audio"}


@dataclass(frozen=True)
class ParquetPart(FilePart):
    """The rows of a Parquet file.

    Attributes:
        dataset: The dataset's name in error messages.
        path: The file.
    """

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        with self._reading():
            return pq.read_schema(self.path)

    def count(self) -> int:
        """Return the number of rows."""
        return self._rows

    @cached_property
    def _rows(self) -> int:
        with self._reading():
            return int(pq.read_metadata(self.path).num_rows)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the file is damaged.
        """
        done = 0
        # Pages are read one by one, because a whole row group may be the whole file; checksums are optional
        how = {"buffer_size": _PAGE, "pre_buffer": False, "page_checksum_verification": True}
        with self._reading(), pq.ParquetFile(self.path, **how) as file:
            most = min(rows, max(1, READ_BYTES // _row_bytes(file.metadata, columns)))
            for batch in file.iter_batches(batch_size=most, columns=columns):
                batch.validate(full=True)
                done += batch.num_rows
                yield batch.select(columns)
        if done != self.count():
            raise unreadable(self.dataset, self.path, "a Parquet file")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise ``UserError`` if reading the file fails."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise unreadable(self.dataset, self.path, "a Parquet file", error) from error


def _row_bytes(metadata: pq.FileMetaData, columns: list[str]) -> int:
    """Return the bytes of a row in some columns, on average over the row group with the largest rows."""
    largest = 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = map(group.column, range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        largest = max(largest, size // max(group.num_rows, 1))
    return largest


@register_reader
class Parquet(Reader):
    """Files such as ``train.parquet``, ``validation.parquet``, ``test.parquet``, or shards, or one file."""

    name = "parquet"
    description = "Parquet file, or a folder with one or more for each split"

    def recognises(self, path: Path) -> bool:
        """Return whether a file's name ends so, or a folder has such files."""
        return (path.is_file() and path.suffix.lower() in _ENDINGS) or _folder(path) is not None

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the files. What they mean is in their schemas."""
        folder = path.parent if path.is_file() else _folder(path)
        if folder is None:
            raise UserError(f"dataset '{name}': {path} has no Parquet file")
        files = {ALL: (path,)} if path.is_file() else split_files(name, folder, _ENDINGS)
        others = () if path.is_file() else unread(folder, _ENDINGS, files)
        parts: dict[str, list[Part]] = {
            split: [ParquetPart(name, file) for file in paths] for split, paths in files.items()
        }
        described = described_by(name, [part for own in parts.values() for part in own])
        named = {split: [with_names(name, part) for part in own] for split, own in parts.items()}
        found, notes = by_split_column(name, named, columns_taken(settings.columns))
        return Found(found, folder, described, (*others, *notes))


def described_by(name: str, parts: Sequence[Part]) -> dict[str, str]:
    """Return what the metadata of some parts' schemas say: the keys ``paretofuse.…``.

    Columns of the Hugging Face library have their kind or classes in ``paretofuse.columns``. These may
    differ, as classes are read by name and a test split may lack the labels.

    Args:
        name: The dataset's name in error messages.
        parts: The parts. The first says all that others may say.

    Raises:
        UserError: If a key is unknown, or if two parts say different things.
    """
    first, *others = [_described(name, part) for part in parts]
    for part, said in zip(parts[1:], others, strict=True):
        for key, value in said.items():
            if key != _OF_COLUMNS and first.get(key) != value:
                raise UserError(
                    f"dataset '{name}': schema key {key} is {value} in {part.name}, and "
                    f"{first.get(key, 'not there')} in {parts[0].name}; all files must say the same"
                )
    return first


def _described(name: str, part: Part) -> dict[str, str]:
    found = {}
    metadata = part.schema.metadata or {}
    for key, value in metadata.items():
        if key.startswith(b"paretofuse."):
            word = key.decode(errors="replace")
            if word.removeprefix("paretofuse.") not in DESCRIPTION:
                raise UserError(
                    f"dataset '{name}': {part.name} has the schema key {word}; known: "
                    f"{', '.join(f'paretofuse.{known}' for known in DESCRIPTION)}"
                )
            found[word] = value.decode(errors="replace")
    columns = _features(part.schema)
    if columns:
        found[_OF_COLUMNS] = json.dumps(columns, sort_keys=True)
    return found


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the kinds of columns, and the names of classes, that the Hugging Face library has stored."""
    columns: dict[str, Any] = {}
    for column, feature in features_of(schema).items():
        kind = feature.get("_type") if isinstance(feature, dict) else None
        if kind in _FILES:
            columns[column] = {"kind": _FILES[kind]}
        elif names := class_names(feature):
            columns[column] = {"classes": names}
    return columns


def _folder(path: Path) -> Path | None:
    """Return the folder that has the files: the path, or the one in it where hubs have them."""
    folders = [folder for folder in (path, path / _HUB) if folder.is_dir()]
    named = [folder for folder in folders if has_split_files(folder, _ENDINGS)]
    return next(iter(named or [folder for folder in folders if has_files(folder, _ENDINGS)]), None)
