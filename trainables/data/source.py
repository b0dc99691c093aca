"""Datasets as users bring them: a folder of Parquet files, one a split.

Layout: ``train.parquet``, ``validation.parquet``, ``test.parquet`` (or shards ``train-*.parquet`` …), each
with one column a modality and a label column. Text columns hold strings; image columns hold the encoded
file (PNG, JPEG, WebP, …) as binary; the label is a class name or a class index. The schema's metadata may
name what is not the default (keys ``paretofuse.modalities``, ``.label``, ``.task``, ``.classes``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.errors import UserError
from trainables.tasks.classification import get_task

SPLITS = ("train", "validation", "test")

#: Datasets that come with the package: name -> (folder, description).
DATASETS = {
    "openclipart": (
        Path(__file__).parent / "openclipart",
        "2,402 public-domain drawings with their titles, 13 topics (image + text -> class)",
    ),
}

_DEFAULT_COLUMNS = {"text": "text", "image": "image"}


@dataclass(frozen=True)
class Dataset:
    """An opened dataset; rows are read on demand.

    Attributes:
        name: As the user named it.
        files: The Parquet files of each split.
        modalities: Column of each modality.
        label: Label column.
        task: Task kind.
    """

    name: str
    files: dict[str, tuple[Path, ...]]
    modalities: dict[str, str]
    label: str
    task: str

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order: the schema's, else the sorted names that occur in any split."""
        metadata = _metadata(self.files["train"][0])
        if "paretofuse.classes" in metadata:
            return tuple(_from_json(self.name, metadata, "paretofuse.classes"))
        found: set[Any] = set()
        for paths in self.files.values():
            for path in paths:
                found.update(pq.read_table(path, columns=[self.label])[self.label].unique().to_pylist())
        if None in found:
            raise UserError(f"dataset '{self.name}': column '{self.label}' has empty labels")
        if all(type(value) is int for value in found):  # not bool, which is an int
            return tuple(str(index) for index in range(max(found) + 1))
        return tuple(sorted(map(str, found)))

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
        """Check that the dataset has some modalities.

        Raises:
            UserError: Naming the first that is missing, and those there are.
        """
        for modality in modalities:
            if modality not in self.modalities:
                there = ", ".join(self.modalities)
                raise UserError(f"dataset '{self.name}' has no {modality}; its modalities: {there}")

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return sum(pq.read_metadata(path).num_rows for path in self.files[split])

    def majority(self, split: str) -> float:
        """Return the share of a split's rows that are of its largest class: what guessing it gets right."""
        labels = pa.chunked_array(
            chunk
            for path in self.files[split]
            for chunk in pq.read_table(path, columns=[self.label])[self.label].chunks
        )
        counts = labels.value_counts().field("counts")
        return max(counts.to_pylist()) / len(labels)

    def batches(self, split: str, columns: list[str], rows: int = 512) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split in order, ``rows`` at a time."""
        for path in self.files[split]:
            yield from pq.ParquetFile(path).iter_batches(batch_size=rows, columns=columns)


def open_dataset(name: str) -> Dataset:
    """Open a dataset and check its schema.

    Args:
        name: A dataset that comes with the package, or a folder.

    Raises:
        UserError: If there is no such dataset, a split or a column is missing, or a column's type is wrong.
    """
    folder = DATASETS[name][0] if name in DATASETS else Path(name)
    if not folder.is_dir():
        raise UserError(
            f"dataset '{name}': no such folder, and none of the included datasets ({', '.join(DATASETS)})"
        )
    files = {split: _split_files(name, folder, split) for split in SPLITS}
    _schema(name, files["train"][0])
    metadata = _metadata(files["train"][0])
    modalities = _from_json(name, metadata, "paretofuse.modalities") or _DEFAULT_COLUMNS
    label = metadata.get("paretofuse.label", "label")
    task = metadata.get("paretofuse.task", "classification")
    get_task(task)
    for paths in files.values():
        for path in paths:
            _check_schema(name, path, modalities, label)
    dataset = Dataset(name, files, modalities, label, task)
    for split in SPLITS:
        if not dataset.count(split):
            raise UserError(f"dataset '{name}': the {split} split has no rows")
    return dataset


def image_bytes(value: Any) -> bytes | None:
    """Return an image cell's encoded bytes; a struct with a ``bytes`` field is accepted too."""
    return value.get("bytes") if isinstance(value, dict) else value


def _split_files(name: str, folder: Path, split: str) -> tuple[Path, ...]:
    paths = sorted({*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")})
    if not paths:
        raise UserError(f"dataset '{name}': {folder} has no {split}.parquet (nor {split}-*.parquet)")
    return tuple(paths)


def _metadata(path: Path) -> dict[str, str]:
    raw = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items() if key.startswith(b"paretofuse.")}


def _from_json(name: str, metadata: dict[str, str], key: str) -> Any:
    """Return the value of a schema key, None where it is not set."""
    try:
        return json.loads(metadata.get(key, "null"))
    except ValueError as error:
        raise UserError(f"dataset '{name}': schema key {key} is no JSON: {metadata[key]!r}") from error


def _schema(name: str, path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"dataset '{name}': {path.name} is not a Parquet file that can be read") from error


def _check_schema(name: str, path: Path, modalities: dict[str, str], label: str) -> None:
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
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(check(kind) for check in known):
        raise UserError(
            f"dataset '{name}': {path.name} column '{label}' is {kind}; "
            "expected class names (string) or indices (integer)"
        )
