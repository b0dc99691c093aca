"""Datasets in the format that users provide: a folder of Parquet files, one per split.

The files are ``train.parquet``, ``validation.parquet`` and ``test.parquet``, or shards such as
``train-*.parquet``. Each file has one column per modality and a label column. The kind of a modality defines
the type of its column. The task defines the type of the labels, or their type the task. A null in a
modality's column is a missing value. Where values are files, a column of strings has their paths in the
folder.
The schema's metadata can override defaults, with the keys ``paretofuse.modalities``, ``paretofuse.label``,
``paretofuse.task``, ``paretofuse.query`` and further keys that the task defines.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor

from trainables.data.cells import digest
from trainables.data.files import FileRows
from trainables.data.joined import JoinedRows
from trainables.data.kinds import KINDS, Content, kinds_of
from trainables.data.rows import SPLITS, ParquetRows, Rows
from trainables.errors import UserError, unknown
from trainables.task_settings import TaskSettings
from trainables.tasks import LabelColumn, Task, choose_task, get_task
from trainables.towers import PRESENCE

_LABELS = 65_536  # labels read at a time


@dataclass(frozen=True)
class Modality:
    """Where the values of a modality are.

    Attributes:
        column: Name of the column.
        kind: Name of the kind; one of ``KINDS``.
    """

    column: str
    kind: str


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Its rows are read on demand.

    Attributes:
        name: The name that the user wrote.
        rows: The rows of each split.
        modalities: Column and kind of each modality, in the order in which methods get them.
        label: Name of the label column, which is not there if the task has no labels.
        kind: Name of the task.
        decided: Who says so, in words.
        settings: What the user says about the task.
    """

    name: str
    rows: Rows
    modalities: dict[str, Modality]
    label: str
    kind: str
    decided: str
    settings: TaskSettings

    @cached_property
    def task(self) -> Task:
        """The task to learn, as defined by the labels, the schema's metadata and the user's settings.

        Raises:
            UserError: If the labels and the metadata do not define a task.
        """
        return get_task(self.kind).of_column(label_column(self.name, self.rows, self.label, self.settings))

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


def label_column(name: str, rows: Rows, label: str, settings: TaskSettings) -> LabelColumn:
    """Return what a task is made from.

    Args:
        name: The dataset's name in error messages.
        rows: Its rows.
        label: Name of the label column.
        settings: What the user says about the task.
    """
    metadata = rows.metadata
    if settings.query is None:
        settings = replace(settings, query=metadata.get("paretofuse.query"))
    return LabelColumn(
        f"dataset '{name}': column '{label}'",
        SPLITS,
        lambda split: stored_labels(rows, split, label),
        lambda key: _from_json(name, metadata, f"paretofuse.{key}"),
        settings,
    )


def open_folder(name: str, folder: Path, settings: TaskSettings) -> Dataset:
    """Open the dataset in a folder and check its schema.

    Args:
        name: The dataset's name in error messages.
        folder: The folder.
        settings: What the user says about the task.

    Raises:
        UserError: If a split or column is missing, a split is empty, a column has the wrong type, or the task
            has no use for a setting.
    """
    files = {split: _split_files(name, folder, split) for split in SPLITS}
    return open_rows(name, ParquetRows(name, files), settings)


def open_rows(name: str, rows: ParquetRows | JoinedRows, settings: TaskSettings) -> Dataset:
    """Return the dataset of the rows in some files, as ``open_folder`` does."""
    metadata, schemas = rows.metadata, rows.schemas()
    first = next(iter(schemas.values()))
    modalities = _modalities(name, first, _from_json(name, metadata, "paretofuse.modalities"))
    label = metadata.get("paretofuse.label", "label")
    described = metadata.get("paretofuse.task")
    said = settings.task or described
    labeled = said is None or get_task(said).has_labels
    for path, schema in schemas.items():
        _check_schema(name, path.name, schema, modalities, label if labeled else None)
    column = label_column(name, rows, label, settings)
    kind, decided = choose_task(column, _label_type(first, label) if labeled else pa.null(), described)
    task = get_task(kind)
    for path, schema in schemas.items() if labeled else ():
        found = _label_type(schema, label)
        if not task.takes(found):
            raise UserError(
                f"dataset '{name}': {path.name} column '{label}' is {found}; expected {task.label_types}"
            )
    for option in settings.options():
        if option.name not in ("task", *task.settings) and getattr(settings, option.name) != option.default:
            raise UserError(f"{option.flag}: is not for the task {kind}; leave it out")
    files = {modality.column for modality in modalities.values() if KINDS[modality.kind].of_files}
    paths = {column for column in files if any(_strings(s.field(column).type) for s in schemas.values())}
    folder = next(iter(schemas)).parent
    read = FileRows(name, rows, folder, tuple(sorted(paths))) if paths else rows
    dataset = Dataset(name, read, modalities, label, kind, decided, settings)
    for split in SPLITS:
        if not dataset.count(split):
            raise UserError(f"dataset '{name}': the {split} split has no rows")
    return dataset


def _split_files(name: str, folder: Path, split: str) -> tuple[Path, ...]:
    paths = sorted({*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")})
    if not paths:
        raise UserError(f"dataset '{name}': {folder} has no {split}.parquet (nor {split}-*.parquet)")
    return tuple(paths)


def _from_json(name: str, metadata: dict[str, str], key: str) -> Any:
    """Return the parsed JSON value of a key in the schema's metadata, or None if the key is not set."""
    try:
        return json.loads(metadata.get(key, "null"))
    except ValueError as error:
        raise UserError(f"dataset '{name}': schema key {key} is no JSON: {metadata[key]!r}") from error


def _modalities(name: str, schema: pa.Schema, described: Any) -> dict[str, Modality]:
    """Return the modalities that a dataset's description lists, or else those with the name of a kind.

    Args:
        name: The dataset's name in error messages.
        schema: The schema of its files.
        described: A column's name, or an object with ``column`` and ``kind``, by modality; or None.
    """
    if described is None:
        described = {kind: kind for kind in KINDS if kind in schema.names}
        if not described:
            raise UserError(
                f"dataset '{name}': no column has the name of a kind ({', '.join(KINDS)}); its columns: "
                f"{', '.join(schema.names)}; schema key paretofuse.modalities names others"
            )
    key = f"dataset '{name}': schema key paretofuse.modalities"
    if not isinstance(described, dict) or not described:
        raise UserError(f'{key} is {described!r}; write it as {{"text": "COLUMN"}}')
    if PRESENCE in described:
        raise UserError(f"{key}: no modality can have the name '{PRESENCE}'")
    found = {}
    for modality, value in described.items():
        given = value if isinstance(value, dict) else {"column": value}
        column, kind = given.get("column"), given.get("kind")
        if not isinstance(column, str) or not {*given} <= {"column", "kind"}:
            raise UserError(f'{key}: {modality} is {value!r}; write "COLUMN" or {{"column": …, "kind": …}}')
        if kind is None:
            fitting = kinds_of(schema.field(column).type) if column in schema.names else []
            # Features may be of anything; other columns are what their modality's name says, if it says it
            named = modality in KINDS and "features" not in fitting
            kind = modality if named or modality in fitting or not fitting else fitting[0]
        if kind not in KINDS and column in schema.names:
            raise unknown(f"{key}: kind of {modality}", str(kind), KINDS)
        found[modality] = Modality(column, kind)
    return found


def _label_type(schema: pa.Schema, label: str) -> pa.DataType:
    """Return the type of the labels, without their dictionary."""
    kind = schema.field(label).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _strings(column: pa.DataType) -> bool:
    """Return whether values may be paths."""
    return KINDS["text"].takes(column)


def _check_schema(
    name: str, file: str, schema: pa.Schema, modalities: dict[str, Modality], label: str | None
) -> None:
    for column in (*(modality.column for modality in modalities.values()), *([label] if label else [])):
        if column not in schema.names:
            raise UserError(
                f"dataset '{name}': {file} has no column '{column}'; its columns: {', '.join(schema.names)}"
            )
    for modality in modalities.values():
        stored, kind = schema.field(modality.column).type, KINDS[modality.kind]
        if pa.types.is_null(stored):  # a file in which all values are missing
            continue
        if not kind.takes(stored) and not (kind.of_files and _strings(stored)):
            raise UserError(
                f"dataset '{name}': {file} column '{modality.column}' is {stored}; expected {kind.expected}"
            )
