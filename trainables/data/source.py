"""Datasets, whatever they came as: rows, columns with a meaning, and a task.

A dataset has one column per modality and a label column. The kind of a modality defines the type of its
column. The task defines the type of the labels, or their type the task. A null in a modality's column is a
missing value. What the source says about its columns, with keys ``paretofuse.…``, overrides defaults, and the
user's settings override that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa
from torch import Tensor

from trainables.data.cells import digest
from trainables.data.columns import Modality, check_description, check_schema, columns_said, from_json
from trainables.data.files import FileRows
from trainables.data.guessing import classes_of, find_columns
from trainables.data.kinds import KINDS, Content
from trainables.data.locating import file_columns, located
from trainables.data.plain import different_types, plain_parts
from trainables.data.readers import Found, Part
from trainables.data.rows import PartRows, Rows
from trainables.data.splits import SPLITS
from trainables.data.splitting import with_all_splits
from trainables.data.unlabeled import with_labels_only, with_test_labels
from trainables.data.written import written_labels
from trainables.errors import UserError, unknown
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings
from trainables.tasks import TASKS, LabelColumn, Task, choose_task, common_type, get_task, plain, plain_type
from trainables.tasks.labels import is_list

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
        format: Name of the format; empty if it is included.
        parts: The parts that were read, by split, or of ``ALL``.
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
    format: str = ""
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """The task to learn, as defined by the labels, the schema's metadata and the user's settings.

        Raises:
            UserError: If the labels and the metadata do not define a task.
        """
        kind = get_task(self.kind)
        if kind.has_labels:
            self._labels.require_labels()
        return kind.of_column(self._labels)

    def require_learnable(self) -> None:
        """Check that the labels leave something to learn, and that what is learnt can be scored.

        Raises:
            UserError: If not.
        """
        if self.task.has_labels:
            self.task.require_learnable(self._labels)

    @cached_property
    def labeled(self) -> tuple[str, ...]:
        """The splits whose rows have labels: all, or all but a test split whose labels are kept from us."""
        kind, column = get_task(self.kind), self._all_labels
        if not kind.has_labels or not kind.hides(column, "test"):
            return SPLITS
        return tuple(split for split in SPLITS if split != "test")

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know about how labels were understood, a line each.

        Raises:
            UserError: If there is no task.
        """
        if not self.task.has_labels:
            return ()
        hidden = [
            f"{split}: not scored, its rows have no labels" for split in SPLITS if split not in self.labeled
        ]
        return (*self.task.remarks(self._labels), *hidden)

    @cached_property
    def _all_labels(self) -> LabelColumn:
        return label_column(self.name, self.rows, self.label, self.metadata, self.settings)

    @cached_property
    def _labels(self) -> LabelColumn:
        """The label column of the splits that have labels."""
        return self._all_labels.of_splits(self.labeled)

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
            split: Name of the split, one of ``labeled``.
            modalities: The modalities that are used, on which the labels of pairs depend; none means all.

        Raises:
            UserError: If the task does not accept a label. The message names the row.
        """
        if not self.task.has_labels:
            return self._paired(split, modalities or self.modalities)
        return self._labels.encoded(self.task, split)

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
    """Yield the labels of a split, see ``plain``, a part at a time."""
    for batch in rows.batches(split, [label], _LABELS):
        yield plain(batch[label])


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
        rows.words,
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
    check_description(name, found.metadata)
    described = found.metadata.get("paretofuse.task")
    if described is not None and described not in TASKS:
        raise UserError(f"dataset '{name}': schema key paretofuse.task: {unknown('task', described, TASKS)}")
    task_said = settings.task or described
    labeled = task_said is None or get_task(task_said).has_labels
    found = replace(found, parts={split: plain_parts(name, each) for split, each in found.parts.items()})
    columns = find_columns(name, found, columns_said(reading.columns), labeled)
    modalities, label = columns.modalities, columns.label
    metadata = classes_of(name, found.metadata, label)
    notes = [*found.notes, *columns.notes]
    delimited = settings.tag_delimiter is not None or "paretofuse.delimiter" in metadata
    if found.untyped and labeled and not delimited:  # "1,2" may be two tags
        typed, note = written_labels(found.parts, label)
        found = replace(found, parts=typed)
        notes += [note] if note else []
    if labeled:
        found = with_test_labels(found, label)
    parts = [part for each in found.parts.values() for part in each]
    for part in parts:
        check_schema(name, part.name, part.schema, modalities, label if labeled else None)
    where = f"dataset '{name}': column '{label}'"
    types = [(part.name, part.schema.field(label).type) for part in parts] if labeled else []
    stored = common_type(where, types)
    if pa.types.is_nested(stored.value_type if is_list(stored) else stored):
        raise UserError(f"{where} is {stored}; expected texts, numbers, or lists of them")
    rows, said = rows_of(name, found, modalities, label if labeled else None)
    notes += said
    column = label_column(name, rows, label, metadata, settings)
    if labeled and reading.bad_rows == "skip":
        rows, left_out = with_labels_only(rows, column)
        notes += [f"rows without a label are left out: {left_out:,}"] if left_out else []
    if not {*SPLITS} <= {*rows.splits}:
        rows, made = with_all_splits(
            name, rows, modalities, label if labeled else None, column.delimiter, reading
        )
        notes.append(made)
    column = label_column(name, rows, label, metadata, settings)
    kind, decided = choose_task(column, stored, described)
    task = get_task(kind)
    for file, stored in types:
        if not (pa.types.is_null(stored) or task.takes(plain_type(stored))):
            raise UserError(
                f"dataset '{name}': {file} column '{label}' is {stored}; expected {task.label_types}"
            )
    for option in settings.options():
        if option.name not in ("task", *task.settings) and getattr(settings, option.name) != option.default:
            raise UserError(f"{option.flag}: is not for the task {kind}; leave it out")
    of_task = label, kind, decided, settings
    dataset = Dataset(name, rows, metadata, modalities, *of_task, tuple(notes), found.format, found.parts)
    for split in SPLITS:
        if not dataset.count(split):
            raise UserError(f"dataset '{name}': the {split} split has no rows")
    return dataset


def rows_of(
    name: str, found: Found, modalities: Mapping[str, Modality], label: str | None
) -> tuple[Rows, list[str]]:
    """Return the rows of parts, with the bytes of the files that they name, and what the user should know."""
    parts = [part for each in found.parts.values() for part in each]
    columns = [modality.column for modality in modalities.values()]
    files = {modality.column for modality in modalities.values() if KINDS[modality.kind].of_files}
    labels = [] if label is None else [label]
    types = different_types(name, parts, [*columns, *labels], mixed={*files, *labels})
    rows = PartRows(found.parts, types)
    paths = file_columns(parts, files)
    if not paths:
        return rows, []
    folders, notes = located(name, parts, paths, found.folder)
    return FileRows(rows, folders), notes
