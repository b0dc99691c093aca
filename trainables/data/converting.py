"""Datasets of any format are written as Parquet files, one for each split."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.bad_rows import BadRow, refuse
from trainables.data.kinds import Content, Unreadable
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.data.understood.sizes import size_of
from trainables.disk import move_synced, writing
from trainables.errors import UserError
from trainables.units import MIB

_ROWS = 256  # rows that are read at a time
_GROUP = 64 * MIB  # bytes that are written at a time, about

#: What a description says about labels, beside the column.
_ABOUT_LABELS = ("classes", "delimiter", "range", "query")

#: The types in which contents are written, by kind.
_TYPES = {
    "text": pa.large_string(),
    "image": pa.large_binary(),
    "audio": pa.large_binary(),
    "features": pa.large_list(pa.list_(pa.float32())),
}


def convert(
    dataset: Dataset,
    folder: Path,
    bad_rows: str = "error",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, int]:
    """Write a dataset as ``train.parquet``, ``validation.parquet`` and ``test.parquet``.

    They hold the bytes of all files, and say in the schema's metadata what their columns are. Files are not
    decoded, but what is no picture or sound, or is cut off, is found. Nothing is left behind if it fails.

    Args:
        dataset: The dataset.
        folder: The new folder.
        bad_rows: What becomes of rows whose files cannot be read; one of ``BAD_ROWS``.
        progress: Called with (split, rows done, rows of the split).

    Returns:
        The number of rows of each split.

    Raises:
        DiskFullError: If the disk has no space for it.
        UserError: If there is something in the folder, or if files cannot be read.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; name a new folder")
    made = folder.parent / f".{folder.name}-{os.getpid()}"
    bad: list[BadRow] = []
    try:
        with writing(folder.parent, "name another folder"):
            made.mkdir(parents=True)
            counts = {split: _write(dataset, split, made, bad, bad_rows, progress) for split in SPLITS}
            if bad and bad_rows == "error":
                raise refuse(dataset, bad)
            if not all(counts.values()):
                raise UserError(f"dataset '{dataset.name}': a split has no row that can be read")
            if folder.exists():
                folder.rmdir()
            move_synced(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return counts


def _write(
    dataset: Dataset,
    split: str,
    folder: Path,
    bad: list[BadRow],
    bad_rows: str,
    progress: Callable[[str, int, int], None] | None,
) -> int:
    """Write a split, add its rows that cannot be read to ``bad``, and return how many rows were written."""
    types = {where.column: _TYPES[where.kind] for where in dataset.modalities.values()}
    columns, total = list(types), dataset.count(split)
    if dataset.task.has_labels:
        first = next(dataset.batches(split, [dataset.label], 1))
        types[dataset.label] = first.schema.field(dataset.label).type
        columns.append(dataset.label)
    schema = pa.schema(types, _metadata(dataset))
    done = written = 0
    with _Groups(folder / f"{split}.parquet", schema) as file:
        for batch in dataset.batches(split, list(dict.fromkeys(columns)), _ROWS):
            good = np.ones(batch.num_rows, dtype=bool)
            values = {column: batch[column] for column in types if column == dataset.label}
            for modality, where in dataset.modalities.items():
                contents = [_checked(where.kind, content) for content in dataset.contents(modality, batch)]
                for row, content in enumerate(contents):
                    if isinstance(content, Unreadable):
                        bad.append(BadRow(split, done + row, modality, content))
                        good[row] = False
                values[where.column] = pa.array(map(_stored, contents), types[where.column])
            done += batch.num_rows
            made = pa.record_batch([values[column] for column in types], schema=schema)
            file.write(made.filter(pa.array(good)) if bad_rows == "skip" else made)
            written += int(good.sum()) if bad_rows == "skip" else batch.num_rows
            if progress:
                progress(split, done, total)
    return written


def _checked(kind: str, content: Content) -> Content:
    """Return a content, or why it cannot be read; its file's name is lost once it is written."""
    found = None if content is None else size_of(kind, content)
    return found if isinstance(found, Unreadable) else content


def _metadata(dataset: Dataset) -> dict[str, str]:
    """Return what the schema says about the columns."""
    modalities = {
        modality: {"column": where.column, "kind": where.kind}
        for modality, where in dataset.modalities.items()
    }
    settings = dataset.settings
    stated = {key: dataset.metadata.get(f"paretofuse.{key}") for key in _ABOUT_LABELS}
    if settings.query is not None:
        stated["query"] = settings.query
    if settings.tag_delimiter is not None:
        stated["delimiter"] = json.dumps(settings.tag_delimiter)
    described = {
        "modalities": json.dumps(modalities),
        "label": dataset.label,
        "task": dataset.kind,
        **{key: value for key, value in stated.items() if value is not None},
    }
    return {f"paretofuse.{key}": value for key, value in described.items()}


def _stored(content: Content) -> str | bytes | Sequence[np.ndarray] | None:
    """Return a content as Arrow takes it; what cannot be read is missing."""
    if isinstance(content, Unreadable):
        return None
    return list(content) if isinstance(content, np.ndarray) else content


class _Groups:
    """Writes batches to a Parquet file, in groups of about one size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True)
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> _Groups:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch, now or with the next ones."""
        self._waiting.append(batch)
        if sum(each.nbytes for each in self._waiting) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._waiting = []
