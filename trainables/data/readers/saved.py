"""Datasets that the Hugging Face library ``datasets`` has saved with ``save_to_disk``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from trainables.data.readers.base import ALL, Found, Part, Reader, register_reader
from trainables.data.readers.features_of import with_names
from trainables.data.readers.naming import split_named
from trainables.data.readers.opening import file_hash
from trainables.data.readers.parquet import described_by
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: The files by which a saved dataset, and a folder with one for each split, are known.
_ONE, _SPLITS = "state.json", "dataset_dict.json"


@register_reader
class Saved(Reader):
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` has written.

    The Arrow files are mapped into memory. Pictures and sounds stay the bytes or paths that they are.
    """

    name = "datasets"
    description = "what save_to_disk of the Hugging Face library datasets writes"
    rank = -2  # other files in its folders look like tables

    def recognises(self, path: Path) -> bool:
        """Return whether a folder, or a folder in it, is a saved dataset."""
        return any((path / file).is_file() for file in (_ONE, _SPLITS)) or any(path.glob(f"*/{_ONE}"))

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of each split; a dataset that was saved alone is not split."""
        folders = _folders(name, path)
        splits = {word: ALL if folder == path else split_named(word) for word, folder in folders.items()}
        used = sorted((word for word in splits if splits[word]), key=lambda word: splits[word] != "train")
        saved = {
            word: _open(name, word, folders[word]) for word in used
        }  # train says which classes there are
        if not saved:
            there = (
                f"has the splits {', '.join(splits)}, none of which is train"
                if splits
                else "is no such dataset"
            )
            raise UserError(f"dataset '{name}': {path} {there}")
        parts: dict[str, list[Part]] = {}
        for word, part in saved.items():
            parts.setdefault(str(splits[word]), []).append(with_names(name, part))
        unused = [word for word in splits if word not in saved]
        notes = (f"not used: {', '.join(unused)}, which are no splits",) if unused else ()
        return Found(parts, path, described_by(name, [*saved.values()]), notes)


def _folders(name: str, path: Path) -> dict[str, Path]:
    """Return the folders of saved datasets, by the names of their splits."""
    if (path / _ONE).is_file():
        return {path.name: path}
    file = path / _SPLITS
    if not file.is_file():
        return {folder.parent.name: folder.parent for folder in sorted(path.glob(f"*/{_ONE}"))}
    try:
        return {split: path / split for split in json.loads(file.read_bytes())["splits"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"dataset '{name}': {file} does not list the splits, as it should") from error


def _open(name: str, word: str, folder: Path) -> SavedPart:
    """Return the rows of a saved dataset.

    Raises:
        UserError: If the library is not installed, or cannot open it.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"dataset '{name}': {folder} needs the library datasets: pip install 'paretofuse[hf]'"
        ) from error
    try:
        found = datasets.load_from_disk(str(folder), keep_in_memory=False)
        return SavedPart(
            name, word, found.data.table, tuple(Path(each["filename"]) for each in found.cache_files)
        )
    except Exception as error:  # what malformed files raise has no class in common
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"dataset '{name}': {folder} cannot be opened ({reason})") from error


@dataclass(frozen=True)
class SavedPart:
    """The rows of Arrow files that are mapped into memory.

    Attributes:
        dataset: The dataset's name in error messages.
        name: What the user calls it, for messages.
        table: The rows.
        files: The files.
    """

    dataset: str
    name: str
    table: pa.Table
    files: tuple[Path, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.table.schema

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the files."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(file_hash(path))
        return digest.digest()

    def count(self) -> int:
        """Return the number of rows."""
        return self.table.num_rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the files are damaged.
        """
        for batch in self.table.select(columns).to_batches(max_chunksize=rows):
            try:
                batch.validate(full=True)
            except pa.ArrowException as error:
                raise UserError(
                    f"dataset '{self.dataset}': {', '.join(map(str, self.files))} is damaged ({error})"
                ) from error
            yield batch

    def word(self, row: int) -> None:
        """Return None: rows have numbers only."""
