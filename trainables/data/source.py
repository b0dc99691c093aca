"""Datasets in the format that users provide: a folder of Parquet files, one per split.

The files are ``train.parquet``, ``validation.parquet`` and ``test.parquet``, or shards such as
``train-*.parquet``. Each file has one column per modality and a label column. Text columns contain strings.
Image columns contain encoded files (PNG, JPEG, WebP, …) as binary. The task defines the type of the labels.
The schema's metadata can override defaults, with the keys ``paretofuse.modalities``, ``paretofuse.label``,
``paretofuse.task`` and further keys that the task defines.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from trainables.errors import UserError
from trainables.tasks import DEFAULT_TASK, LabelColumn, Task, get_task

SPLITS = ("train", "validation", "test")

#: Datasets in the package, as name -> (folder, description).
DATASETS = {
    "openclipart": (
        Path(__file__).parent / "openclipart",
        "2,402 public-domain drawings with their titles, 13 topics (image + text -> class)",
    ),
}

_DEFAULT_COLUMNS = {"text": "text", "image": "image"}


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Its rows are read on demand.

    Attributes:
        name: The name that the user wrote.
        files: The Parquet files of each split.
        modalities: Name of each modality's column.
        label: Name of the label column.
        kind: Name of the task.
    """

    name: str
    files: dict[str, tuple[Path, ...]]
    modalities: dict[str, str]
    label: str
    kind: str

    @cached_property
    def task(self) -> Task:
        """The task to learn, as defined by the labels and the schema's metadata.

        Raises:
            UserError: If the labels and the metadata do not define a task.
        """
        metadata = _metadata(self.files["train"][0])
        return get_task(self.kind).of_column(
            LabelColumn(
                f"dataset '{self.name}': column '{self.label}'",
                SPLITS,
                self._stored_labels,
                lambda key: _from_json(self.name, metadata, f"paretofuse.{key}"),
            )
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' content."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for path in self.files[split]:
                with path.open("rb") as file:
                    digest.update(split.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

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
        rows = 0
        for path in self.files[split]:
            with _reading(self.name, path):
                rows += pq.read_metadata(path).num_rows
        return rows

    def labels(self, split: str) -> Tensor:
        """Return the labels of a split's rows, encoded by the task.

        Raises:
            UserError: If the task does not accept a label. The message names the row.
        """
        where = f"dataset '{self.name}', {split} row"
        stored = [label for labels in self._stored_labels(split) for label in labels.to_pylist()]
        return self.task.encode(stored, where)

    def batches(self, split: str, columns: list[str], rows: int = 512) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        for path in self.files[split]:
            with _reading(self.name, path):
                for batch in pq.ParquetFile(path).iter_batches(batch_size=rows, columns=columns):
                    batch.validate(full=True)
                    yield batch

    def _stored_labels(self, split: str) -> Iterator[pa.ChunkedArray]:
        for path in self.files[split]:
            with _reading(self.name, path):
                table = pq.read_table(path, columns=[self.label])
                table.validate(full=True)
            yield table[self.label]


def open_dataset(name: str) -> Dataset:
    """Open a dataset and check its schema.

    Args:
        name: Name of a dataset in the package, or a folder.

    Raises:
        UserError: If there is no such dataset, a split or column is missing, a split is empty, or a column
            has the wrong type.
    """
    folder = DATASETS[name][0] if name in DATASETS else Path(name)
    if not os.path.isdir(folder):  # False for a name that no file can have, too
        raise UserError(
            f"dataset '{name}': no such folder, and none of the included datasets ({', '.join(DATASETS)})"
        )
    files = {split: _split_files(name, folder, split) for split in SPLITS}
    _schema(name, files["train"][0])
    metadata = _metadata(files["train"][0])
    modalities = _from_json(name, metadata, "paretofuse.modalities") or _DEFAULT_COLUMNS
    label = metadata.get("paretofuse.label", "label")
    kind = metadata.get("paretofuse.task", DEFAULT_TASK)
    task = get_task(kind)
    for paths in files.values():
        for path in paths:
            _check_schema(name, path, modalities, label, task)
    dataset = Dataset(name, files, modalities, label, kind)
    for split in SPLITS:
        if not dataset.count(split):
            raise UserError(f"dataset '{name}': the {split} split has no rows")
    return dataset


def image_bytes(value: Any) -> bytes | None:
    """Return the encoded bytes of an image cell, which is binary or a struct with a ``bytes`` field."""
    return value.get("bytes") if isinstance(value, dict) else value


def _split_files(name: str, folder: Path, split: str) -> tuple[Path, ...]:
    paths = sorted({*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")})
    if not paths:
        raise UserError(f"dataset '{name}': {folder} has no {split}.parquet (nor {split}-*.parquet)")
    return tuple(paths)


@contextmanager
def _reading(name: str, path: Path) -> Iterator[None]:
    """Raise ``UserError`` if reading a file of a dataset fails."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"dataset '{name}': {path.name} is not a Parquet file that can be read") from error


def _metadata(path: Path) -> dict[str, str]:
    raw = pq.read_schema(path).metadata or {}
    ours = {key: value for key, value in raw.items() if key.startswith(b"paretofuse.")}
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in ours.items()}


def _from_json(name: str, metadata: dict[str, str], key: str) -> Any:
    """Return the parsed JSON value of a key in the schema's metadata, or None if the key is not set."""
    try:
        return json.loads(metadata.get(key, "null"))
    except ValueError as error:
        raise UserError(f"dataset '{name}': schema key {key} is no JSON: {metadata[key]!r}") from error


def _schema(name: str, path: Path) -> pa.Schema:
    with _reading(name, path):
        return pq.read_schema(path)


def _check_schema(name: str, path: Path, modalities: dict[str, str], label: str, task: type[Task]) -> None:
    schema = _schema(name, path)
    for column in (*modalities.values(), label):
        if column not in schema.names:
            raise UserError(
                f"dataset '{name}': {path.name} has no column '{column}'; "
                f"its columns: {', '.join(schema.names)}"
            )
    for modality, column in modalities.items():
        kind = schema.field(column).type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        image = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind)
        if not (text if modality == "text" else image):
            expected = "string" if modality == "text" else "binary (encoded image files)"
            raise UserError(f"dataset '{name}': {path.name} column '{column}' is {kind}; expected {expected}")
    kind = schema.field(label).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not task.takes(kind):
        raise UserError(
            f"dataset '{name}': {path.name} column '{label}' is {kind}; expected {task.label_types}"
        )
