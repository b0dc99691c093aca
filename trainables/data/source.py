"""Datasets, whatever they came as: rows, columns with a meaning, and a task.

A dataset has one column per modality and a label column. The kind of a modality defines the type of its
column. The task defines the type of the labels, or their type the task. A null in a modality's column is a
missing value. What the source says about its columns, with keys ``paretofuse.…``, overrides defaults, and the
user's settings override that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
from torch import Tensor

from trainables.data.cells import digest
from trainables.data.columns import (
    Modality,
    check_schema,
    columns_said,
    from_json,
    modalities_of,
    names_files,
)
from trainables.data.files import FileRows
from trainables.data.kinds import KINDS, Content
from trainables.data.readers import Found
from trainables.data.rows import PartRows, Rows
from trainables.data.splits import SPLITS
from trainables.data.splitting import with_all_splits
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings
from trainables.tasks import LabelColumn, Task, choose_task, get_task

_LABELS = 65_536  # labels read at a time


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Its rows are read on demand.

    Attributes:
        name: The name that the user wrote.
        rows: The rows of each split.
        metadata: What the dataset says about itself, see ``Found``.
        modalities: Column and kind of each modality, in the order in which methods get them.
        label: Name of the label column, which is not there if the task has no labels.
        kind: Name of the task.
        decided: Who says so, in words.
        settings: What the user says about the task.
        notes: What the user should know about how it was read, a sentence each.
    """

    name: str
    rows: Rows
    metadata: Mapping[str, str]
    modalities: dict[str, Modality]
    label: str
    kind: str
    decided: str
    settings: TaskSettings
    notes: tuple[str, ...] = ()

    @cached_property
    def task(self) -> Task:
        """The task to learn, as defined by the labels, the schema's metadata and the user's settings.

        Raises:
            UserError: If the labels and the metadata do not define a task.
        """
        column = label_column(self.name, self.rows, self.label, self.metadata, self.settings)
        return get_task(self.kind).of_column(column)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows' content."""
        return self.rows.fingerprint

    def require(self, modalities: Iterable[str]) -> None:
        """Check that the dataset has the given modalities.

        Raises:
            UserError: If one is missing. The message names the first missing one and the existing ones.
        """
        for modality in modalities:
            if modality not in self.modalities:
                there = ", ".join(self.modalities)
                raise UserError(f"dataset '{self.name}' has no {modality}; its modalities: {there}")

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return self.rows.count(split)

    def labels(self, split: str, modalities: Collection[str] = ()) -> Tensor:
        """Return the labels of a split's rows, encoded by the task.

        Args:
            split: Name of the split.
            modalities: The modalities that are used, on which the labels of pairs depend; none means all.

        Raises:
            UserError: If the task does not accept a label. The message names the row.
        """
        if not self.task.has_labels:
            return self._paired(split, modalities or self.modalities)
        where = f"dataset '{self.name}', {split} row"
        parts = stored_labels(self.rows, split, self.label)
        return self.task.encode([label for labels in parts for label in labels.to_pylist()], where)

    def _paired(self, split: str, modalities: Collection[str]) -> Tensor:
        """Return the labels of rows whose contents themselves are what is learnt."""
        found: dict[str, list[bytes]] = {modality: [] for modality in modalities}
        for batch in self.batches(split, [self.modalities[modality].column for modality in modalities]):
            for modality, digests in found.items():
                digests += map(digest, self.contents(modality, batch))
        return self.task.paired(found)

    def batches(self, split: str, columns: list[str], rows: int = 512) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        return self.rows.batches(split, columns, rows)

    def contents(self, modality: str, batch: pa.RecordBatch) -> list[Content]:
        """Return the contents of a batch's cells of one modality; None for a value that is missing."""
        where = self.modalities[modality]
        return KINDS[where.kind].contents(batch[where.column])


def stored_labels(rows: Rows, split: str, label: str) -> Iterator[pa.ChunkedArray]:
    """Yield the labels of a split as they are stored, a part at a time."""
    for batch in rows.batches(split, [label], _LABELS):
        yield pa.chunked_array([batch[label]])


def label_column(
    name: str, rows: Rows, label: str, metadata: Mapping[str, str], settings: TaskSettings
) -> LabelColumn:
    """Return what a task is made from.

    Args:
        name: The dataset's name in error messages.
        rows: Its rows.
        label: Name of the label column.
        metadata: What the dataset says about itself.
        settings: What the user says about the task.
    """
    if settings.query is None:
        settings = replace(settings, query=metadata.get("paretofuse.query"))
    return LabelColumn(
        f"dataset '{name}': column '{label}'",
        SPLITS,
        lambda split: stored_labels(rows, split, label),
        lambda key: from_json(name, metadata, f"paretofuse.{key}"),
        settings,
    )


def open_found(
    name: str, found: Found, settings: TaskSettings, reading: ReadingSettings | None = None
) -> Dataset:
    """Return the dataset that a reader has found, with its columns checked.

    Args:
        name: The dataset's name in error messages.
        found: What the reader has found.
        settings: What the user says about the task.
        reading: What the user says about reading; None is nothing.

    Raises:
        UserError: If a column is missing or has the wrong type, a split is empty, or the task has no use for
            a setting.
    """
    reading = reading or ReadingSettings()
    parts = [part for each in found.parts.values() for part in each]
    metadata = {**found.metadata, **columns_said(reading.columns)}
    modalities = modalities_of(name, parts[0].schema, from_json(name, metadata, "paretofuse.modalities"))
    label = metadata.get("paretofuse.label", "label")
    described = metadata.get("paretofuse.task")
    said = settings.task or described
    labeled = said is None or get_task(said).has_labels
    for part in parts:
        check_schema(name, part.name, part.schema, modalities, label if labeled else None)
    rows: Rows = PartRows(found.parts)
    files = {modality.column for modality in modalities.values() if KINDS[modality.kind].of_files}
    paths = {c for c in files if any(names_files(part.schema.field(c).type) for part in parts)}
    if paths:
        rows = FileRows(rows, found.folder, tuple(sorted(paths)))
    if not {*SPLITS} <= {*rows.splits}:
        rows = with_all_splits(name, rows, modalities, label if labeled else None, reading)
    column = label_column(name, rows, label, metadata, settings)
    stored = _label_type(parts[0].schema, label) if labeled else pa.null()
    kind, decided = choose_task(column, stored, described)
    task = get_task(kind)
    for part in parts if labeled else ():
        stored = _label_type(part.schema, label)
        if not task.takes(stored):
            raise UserError(
                f"dataset '{name}': {part.name} column '{label}' is {stored}; expected {task.label_types}"
            )
    for option in settings.options():
        if option.name not in ("task", *task.settings) and getattr(settings, option.name) != option.default:
            raise UserError(f"{option.flag}: is not for the task {kind}; leave it out")
    dataset = Dataset(name, rows, metadata, modalities, label, kind, decided, settings, found.notes)
    for split in SPLITS:
        if not dataset.count(split):
            raise UserError(f"dataset '{name}': the {split} split has no rows")
    return dataset


def _label_type(schema: pa.Schema, label: str) -> pa.DataType:
    """Return the type of the labels, without their dictionary."""
    kind = schema.field(label).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind
