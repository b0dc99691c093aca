"""Datasets that are decoded and brought to one size once, into memory-mapped Arrow files for all trials."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.cache import ADVICE, build_once, cache_dir
from trainables.cache.entries import entries_of, last_used, remove, size_of
from trainables.data.bad_rows import (
    BadCells,
    BadRow,
    bad_rows_of,
    by_reason,
    read_bad,
    refuse,
    rows_of,
    write_bad,
)
from trainables.data.cells import BLANK, Cells, CellWriter, digest, read_batches, writing_batches
from trainables.data.few import Few
from trainables.data.kinds import KINDS, Unreadable
from trainables.data.source import Dataset
from trainables.data.splits import READ_BYTES, SPLITS
from trainables.data.warned import listening
from trainables.disk import disk_full, free_space
from trainables.errors import UserError
from trainables.notices import tell
from trainables.progress import Tick, no_tick
from trainables.reading_settings import ReadingSettings
from trainables.tasks import Task, get_task, read_task
from trainables.towers import EncoderSource, InputSizes
from trainables.units import GIB

#: Largest size of all prepared datasets together in bytes.
LIMIT = 32 * GIB

_FORMAT = 5  # increase when the layout below changes
_BAD = "bad.json"
_ROW_BYTES = 16  # of a row's label and numbers of cells, about

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset: a folder with ``prepared.json`` and Arrow files.

    Each split has a file with the distinct cells of each modality, and one with its rows: their labels, and
    the numbers of their cells. Cells that cannot be read have the values of the blank, and are listed in a
    file with the reasons. What becomes of them is decided when the data are opened. Any process of the node
    can open them by their path alone.

    Attributes:
        folder: The folder.
        few: The rows of the training split that are used; None uses all.
        bad_rows: What becomes of rows that cannot be read; one of ``BAD_ROWS``.
    """

    folder: Path
    few: Few | None = None
    bad_rows: str = "error"

    @cached_property
    def info(self) -> dict[str, Any]:
        """Description of the data: its labels; ``modalities`` with the kind and the facts of each."""
        return json.loads((self.folder / "prepared.json").read_text())

    @property
    def key(self) -> str:
        """Hash of everything that determines the content of the folder."""
        return self.folder.name

    def key_of(self, split: str) -> str:
        """Return a text that determines the content of a split's cells."""
        parts = [self.key]
        if self._bad_cells[split]:
            parts.append(self.bad_rows)
        if self.few is not None and split == "train":
            parts += [str(self.few.count), str(self.few.seed)]
        return "-".join(parts)

    def has_labels(self, split: str) -> bool:
        """Return whether the rows of a split have labels, without which they cannot be scored."""
        return split not in self.info.get("unlabeled", ())

    def split(self, name: str) -> PreparedSplit:
        """Open a split. Inputs are read only when rows are requested."""
        bad = self._bad_cells[name]
        split = PreparedSplit(self.folder, name, self.info, bad if self.bad_rows == "missing" else {})
        if bad and self.bad_rows == "skip":
            good = [~rows_of(split.index[modality], cells) for modality, cells in bad.items()]
            split.keep(torch.stack(good).all(dim=0).nonzero()[:, 0])
        if self.few is not None and name == "train":
            split.keep(self.few.rows(split.labels))
        return split

    @cached_property
    def bad(self) -> list[BadRow]:
        """The rows of all splits that cannot be read."""
        found = []
        for split, cells in self._bad_cells.items():
            if cells:
                found += bad_rows_of(split, PreparedSplit(self.folder, split, self.info).index, cells)
        return found

    @cached_property
    def missing_shares(self) -> dict[str, float]:
        """The share of rows, over all splits, in which each modality is missing."""
        splits = [replace(self, few=None).split(split) for split in SPLITS]
        rows = sum(map(len, splits))
        return {
            modality: sum(int((~split.present(modality)).sum()) for split in splits) / rows
            for modality in self.info["modalities"]
        }

    @property
    def unreadable(self) -> int:
        """Number of rows, over all splits, that cannot be read."""
        return len({(bad.split, bad.row) for bad in self.bad})

    @cached_property
    def _bad_cells(self) -> dict[str, BadCells]:
        return read_bad(self.folder / _BAD)


class PreparedSplit:
    """The rows of one split. Equal inputs of a modality are one cell, which is stored once.

    Args:
        folder: Folder of the prepared data.
        name: Name of the split.
        info: Description of the prepared data.
        missing: Numbers of cells that count as missing, by modality.

    Attributes:
        name: Name of the split.
        labels: The rows' labels, shape (N,) or (N, K); (N, 0) if they have none, which no loss takes.
        cells: The distinct inputs of each modality.
        index: For each modality, the number of each row's cell, shape (N,).
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        info: Mapping[str, Any],
        missing: Mapping[str, Iterable[int]] = MappingProxyType({}),
    ) -> None:
        batches = read_batches(_rows_path(folder, name))
        self.name = name
        self.cells: dict[str, Cells] = {}
        self.index: dict[str, Tensor] = {}
        for modality, described in info["modalities"].items():
            kind = KINDS[described["kind"]]
            self.cells[modality] = Cells(_cells_path(folder, name, modality), kind, described["facts"])
            numbers = np.concatenate([batch[modality].to_numpy() for batch in batches])
            index = torch.from_numpy(numbers).long()
            if modality in missing:
                index = index.masked_fill(rows_of(index, missing[modality]), BLANK)
            self.index[modality] = index
        if name in info.get("unlabeled", ()):
            self.labels = torch.empty(sum(batch.num_rows for batch in batches), 0)
        elif get_task(info["task"]).has_labels:
            labels = np.concatenate([_read_labels(batch["label"]) for batch in batches])
            self.labels = torch.from_numpy(labels)
        else:
            self.labels = read_task(info).paired({m: index.tolist() for m, index in self.index.items()})

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(
        self, modality: str, rows: Tensor, augment: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return an encoder's inputs for the given rows, as ``Kind.inputs`` says.

        Args:
            modality: Name of the modality.
            rows: Row numbers, shape (B,).
            augment: See ``Cells.inputs``.
        """
        return self.cells[modality].inputs(self.index[modality][rows], augment)

    def keep(self, rows: Tensor) -> None:
        """Leave out all rows but those with these numbers (R,), and the cells that they do not need."""
        self.labels = self.labels[rows]
        for modality, numbers in self.index.items():
            used, index = torch.cat([torch.tensor([BLANK]), numbers[rows]]).unique(return_inverse=True)
            self.cells[modality] = self.cells[modality].only(used)  # the blank is the first of them
            self.index[modality] = index[1:]

    def present(self, modality: str) -> Tensor:
        """Return whether each row has a value of a modality, shape (N,)."""
        return self.index[modality] != BLANK


def prepare(
    dataset: Dataset,
    encoders: Mapping[str, EncoderSource],
    sizes: InputSizes,
    *,
    task: Task | None = None,
    few: Few | None = None,
    reading: ReadingSettings | None = None,
    progress: Progress | None = None,
    tick: Tick = no_tick,
) -> PreparedData:
    """Prepare a dataset for the given encoders, unless the cache already contains it.

    All rows are read, whatever becomes of those that cannot be.

    Args:
        dataset: The dataset.
        encoders: One encoder for each modality to prepare.
        sizes: Sizes to which the values of each kind are brought.
        task: The task that encodes the labels; None takes the dataset's.
        few: The rows of the training split that are used of the prepared data; None uses all.
        reading: What becomes of rows that cannot be read, and the background of pictures.
        progress: Called with (split, rows done, rows of the split).
        tick: Called while another process that prepares the same makes progress.

    Raises:
        DiskFullError: If the disk has no space for it.
        UserError: If the dataset lacks a modality; if rows cannot be read, unless they may be left out or
            count as missing, the message names them; or if no row of a split is left.
    """
    reading = reading or ReadingSettings()
    task = task or dataset.task
    info = description_of(dataset, encoders, sizes, task, reading)
    key = key_of(info)
    folder = cache_dir() / "prepared"

    def build(target: Path) -> None:
        size = _size(dataset, info, lambda split, _: dataset.count(split))
        if _excess(folder, size) > 0:  # it may fit if equal cells are counted once
            size = _size(dataset, info, lambda split, modality: _distinct(dataset, split, modality, progress))
        _make_room(folder, size)
        target.mkdir()
        with listening():
            bad = {
                split: _write_split(dataset, split, task, encoders, info, target, progress)
                for split in SPLITS
            }
        write_bad(target / _BAD, bad)
        (target / "prepared.json").write_text(json.dumps(info))

    build_once(folder / key, build, tick)
    data = PreparedData(folder / key, few, reading.bad_rows)
    if data.bad:
        _check_bad(dataset, data)
    return data


def description_of(
    dataset: Dataset,
    encoders: Mapping[str, EncoderSource],
    sizes: InputSizes,
    task: Task,
    reading: ReadingSettings,
) -> dict[str, Any]:
    """Return what ``PreparedData.info`` is of a dataset that is prepared; see ``prepare`` for the arguments.

    Raises:
        UserError: If the dataset lacks a modality, or an encoder does not take its values.
    """
    dataset.require(encoders)
    kinds = {modality: KINDS[dataset.modalities[modality].kind] for modality in encoders}
    info = {
        "format": _FORMAT,
        "dataset": dataset.fingerprint,
        "modalities": {
            modality: {
                "column": dataset.modalities[modality].column,
                "kind": kind.name,
                "facts": kind.facts(dataset, modality, encoders[modality], sizes, reading),
            }
            for modality, kind in sorted(kinds.items())
        },
        **task.encoding(),
    }
    if unlabeled := [split for split in SPLITS if split not in dataset.labeled]:
        info["unlabeled"] = unlabeled
    return info


def key_of(info: Mapping[str, Any]) -> str:
    """Return the key of the prepared data of which this is the description."""
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:16]


def _check_bad(dataset: Dataset, data: PreparedData) -> None:
    """Refuse bad rows if the user does not say otherwise, or if nothing would be left without them."""
    if data.bad_rows == "error":
        raise refuse(dataset, data.bad)
    everything = PreparedData(data.folder, bad_rows=data.bad_rows)
    for split in SPLITS:
        of_split = [bad for bad in data.bad if bad.split == split]
        rows = everything.split(split)
        none_left = f"--bad-rows {data.bad_rows}: dataset '{dataset.name}': no row of the {split} split"
        if not len(rows):
            raise UserError(f"{none_left} can be read: {by_reason(dataset, of_split)}")
        for modality in {bad.modality for bad in of_split}:
            if not rows.present(modality).any():
                of_modality = [bad for bad in of_split if bad.modality == modality]
                raise UserError(
                    f"{none_left} has {modality} that can be read: {by_reason(dataset, of_modality)}"
                )


def _rows_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.arrow"


def _cells_path(folder: Path, split: str, modality: str) -> Path:
    return folder / f"{split}-{modality}.arrow"


def _write_split(
    dataset: Dataset,
    split: str,
    task: Task,
    encoders: Mapping[str, EncoderSource],
    info: Mapping[str, Any],
    folder: Path,
    progress: Progress | None,
) -> BadCells:
    """Write the files of a split, and return the cells that cannot be read."""
    where = f"dataset '{dataset.name}', {split} row"
    total = dataset.count(split)
    done = 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        ahead = stack.enter_context(ThreadPoolExecutor(len(encoders)))
        writers = {}
        for modality, encoder in encoders.items():
            kind, facts = KINDS[dataset.modalities[modality].kind], info["modalities"][modality]["facts"]
            path = _cells_path(folder, split, modality)
            file = stack.enter_context(writing_batches(path, kind.schema(facts)))
            writers[modality] = CellWriter(file, kind.convert(encoder, facts, pool), ahead)
        label = _label_fields(task) if split in dataset.labeled else {}
        schema = pa.schema({**label, **dict.fromkeys(writers, pa.int32())})
        rows_file = stack.enter_context(writing_batches(_rows_path(folder, split), schema))
        columns = [dataset.modalities[modality].column for modality in writers]
        for batch in _pieces(dataset.batches(split, [*columns, *([dataset.label] if label else [])])):
            stored = {}
            if label:
                labels = task.encode(batch[dataset.label].to_pylist(), where, done).numpy()
                stored["label"] = _stored_labels(labels)
            for modality, writer in writers.items():
                stored[modality] = writer.add(dataset.contents(modality, batch), done)
            rows_file.write(pa.record_batch(stored, schema=schema))
            done += batch.num_rows
            if progress:
                progress(split, done, total)
        for writer in writers.values():
            writer.flush()
    warned = [
        BadRow(split, row, modality, Unreadable(re.sub(r"\d+", "#", line)))  # equal but for numbers
        for modality, writer in writers.items()
        for row, line in writer.warned
    ]
    if warned:
        tell(f"dataset '{dataset.name}': read with warnings: {by_reason(dataset, warned)}")
    return {modality: writer.bad for modality, writer in writers.items()}


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches in pieces of about ``READ_BYTES``, because what is read from them is a copy."""
    for batch in batches:
        rows = max(1, batch.num_rows * READ_BYTES // max(batch.nbytes, 1))
        for first in range(0, batch.num_rows, rows):
            yield batch[first : first + rows]


def _size(dataset: Dataset, info: Mapping[str, Any], cells: Callable[[str, str], int]) -> int:
    """Return about how many bytes the data take.

    Args:
        dataset: The dataset.
        info: Description of the data.
        cells: Returns the number of stored cells of a split and modality.
    """
    bytes_of = {
        modality: KINDS[described["kind"]].cell_bytes(described["facts"])
        for modality, described in info["modalities"].items()
    }
    of_cells = sum(cells(split, modality) * size for split in SPLITS for modality, size in bytes_of.items())
    return of_cells + sum(map(dataset.count, SPLITS)) * _ROW_BYTES


def _distinct(dataset: Dataset, split: str, modality: str, progress: Progress | None) -> int:
    """Return the number of distinct cells of a split and modality."""
    found: set[bytes] = set()
    for batch in dataset.batches(split, [dataset.modalities[modality].column]):
        found.update(map(digest, dataset.contents(modality, batch)))
        if progress:
            progress(split, 0, dataset.count(split))
    return len(found)


def _excess(folder: Path, size: int) -> int:
    """Return the bytes that have to be removed before ``size`` more fit the limit and the disk."""
    return max(sum(map(size_of, entries_of(folder))) + size - LIMIT, size - free_space(folder))


def _make_room(folder: Path, size: int) -> None:
    """Remove the prepared data that were not used for longest until more fit the limit and the disk.

    What a process uses stays. New data are prepared even if they exceed the limit, because no trial can run
    without them.

    Raises:
        DiskFullError: If the disk has less than ``size`` bytes left.
    """
    excess = _excess(folder, size)
    for entry in sorted(entries_of(folder), key=last_used):
        if excess <= 0:
            break
        entry_size = size_of(entry)
        with contextlib.suppress(OSError):  # it may be another user's
            excess -= entry_size if remove(entry) else 0
    if free_space(folder) < size:
        raise disk_full(folder, ADVICE, size)


def _label_fields(task: Task) -> dict[str, pa.DataType]:
    """Return the Arrow type of a task's stored labels, a number or a list of K numbers, by column."""
    if not task.has_labels:
        return {}
    labels = task.example_labels(1).numpy()
    kind = pa.from_numpy_dtype(labels.dtype)
    return {"label": kind if labels.ndim == 1 else pa.list_(kind, labels.shape[1])}


def _stored_labels(labels: np.ndarray) -> pa.Array:
    """Convert labels (N,) or (N, K) to the Arrow array in which they are stored."""
    numbers = pa.array(labels.ravel())
    return numbers if labels.ndim == 1 else pa.FixedSizeListArray.from_arrays(numbers, labels.shape[1])


def _read_labels(stored: pa.Array) -> np.ndarray:
    """Return the labels (N,) or (N, K) that ``_stored_labels`` converted."""
    if not pa.types.is_fixed_size_list(stored.type):
        return stored.to_numpy()
    return stored.flatten().to_numpy().reshape(len(stored), -1)
