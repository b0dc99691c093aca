"""Datasets that are decoded, resized and tokenised once, into memory-mapped Arrow files for all trials."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps
from torch import Tensor

from trainables.cache import ADVICE, build_once, cache_dir
from trainables.cache.entries import entries_of, last_used, remove, size_of
from trainables.data.cells import (
    Cells,
    CellWriter,
    Content,
    Convert,
    digest,
    read_batches,
    writing_batches,
)
from trainables.data.rows import SPLITS
from trainables.data.source import Dataset, image_bytes
from trainables.disk import disk_full, free_space
from trainables.errors import UserError
from trainables.progress import Tick, no_tick
from trainables.tasks import Task, read_task
from trainables.towers import EncoderSource
from trainables.units import GIB

#: Largest size of all prepared datasets together in bytes.
LIMIT = 32 * GIB

_FORMAT = 3  # increase when the layout below changes
_ROW_BYTES = 16  # of a row's label and numbers of cells, about

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset: a folder with ``prepared.json`` and Arrow files.

    Each split has a file with the distinct cells of each modality, and one with its rows: their labels, and
    the numbers of their cells. Any process of the node can open it by its path alone.
    """

    folder: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """Description of the data: task, modalities, sizes, image mean and standard deviation."""
        return json.loads((self.folder / "prepared.json").read_text())

    @property
    def key(self) -> str:
        """Hash of everything that determines the content."""
        return self.folder.name

    @cached_property
    def task(self) -> Task:
        """The task to learn."""
        return read_task(self.info)

    def split(self, name: str) -> PreparedSplit:
        """Open a split. Inputs are read only when rows are requested."""
        return PreparedSplit(self.folder, name, self.info)


class PreparedSplit:
    """The rows of one split. Equal inputs of a modality are one cell, which is stored once.

    Args:
        folder: Folder of the prepared data.
        name: Name of the split.
        info: Description of the prepared data.

    Attributes:
        labels: The rows' labels, shape (N,) or (N, K).
        cells: The distinct inputs of each modality.
        index: For each modality, the number of each row's cell, shape (N,).
    """

    def __init__(self, folder: Path, name: str, info: Mapping[str, Any]) -> None:
        batches = read_batches(_rows_path(folder, name))
        self.labels = torch.from_numpy(np.concatenate([_read_labels(batch["label"]) for batch in batches]))
        self.cells: dict[str, Cells] = {}
        self.index: dict[str, Tensor] = {}
        for modality in info["modalities"]:
            self.cells[modality] = Cells(_cells_path(folder, name, modality), modality, info)
            numbers = np.concatenate([batch[modality].to_numpy() for batch in batches])
            self.index[modality] = torch.from_numpy(numbers).long()

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, modality: str, rows: Tensor) -> dict[str, Tensor]:
        """Return an encoder's inputs for the given rows.

        Args:
            modality: ``text`` returns ``input_ids`` (B, T) and ``attention_mask`` (B, T), which is True for
                real tokens. ``image`` returns normalised ``pixel_values`` (B, 3, S, S).
            rows: Row numbers, shape (B,).
        """
        return self.cells[modality].inputs(self.index[modality][rows])


def prepare(
    dataset: Dataset,
    encoders: Mapping[str, EncoderSource],
    *,
    text_length: int,
    image_size: int,
    progress: Progress | None = None,
    tick: Tick = no_tick,
) -> PreparedData:
    """Prepare a dataset for the given encoders, unless the cache already contains it.

    Args:
        dataset: The dataset.
        encoders: One encoder for each modality to prepare.
        text_length: Number of tokens to which texts are cut or padded.
        image_size: Side of the square images in pixels. Images are resized to this length of the shorter side
            and then cropped at the centre.
        progress: Called with (split, rows done, rows of the split).
        tick: Called while another process that prepares the same makes progress.

    Raises:
        DiskFullError: If the disk has no space for it.
        UserError: If the dataset lacks a modality or a row cannot be read. The message names the row.
    """
    dataset.require(encoders)
    processing = {m: encoder.fingerprint() for m, encoder in encoders.items() if m == "text"}
    mean, std = _image_statistics(encoders.get("image"))
    info = {
        "format": _FORMAT,
        "dataset": dataset.fingerprint,
        "tokenizer": processing,
        "modalities": sorted(encoders),
        "text_length": text_length,
        "image_size": image_size,
        "image_mean": mean,
        "image_std": std,
        **dataset.task.to_dict(),
    }
    key = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:16]

    folder = cache_dir() / "prepared"

    def build(target: Path) -> None:
        size = _size(dataset, info, lambda split, _: dataset.count(split))
        if _excess(folder, size) > 0:  # it may fit if equal cells are counted once
            size = _size(dataset, info, lambda split, modality: _distinct(dataset, split, modality, progress))
        _make_room(folder, size)
        target.mkdir()
        for split in SPLITS:
            _write_split(dataset, split, encoders, info, target, progress)
        (target / "prepared.json").write_text(json.dumps(info))

    build_once(folder / key, build, tick)
    return PreparedData(folder / key)


def typical_text_length(dataset: Dataset, encoder: EncoderSource) -> int:
    """Return a text length in tokens that at most one in a hundred training texts exceeds.

    The length is rounded up to a multiple of 8 and is at most the encoder's largest length.

    Args:
        dataset: The dataset.
        encoder: The text encoder, which defines the tokeniser and the largest length.
    """
    key = hashlib.sha256(f"{dataset.fingerprint}{encoder.fingerprint()}".encode()).hexdigest()[:16]
    path = cache_dir() / "text_lengths" / f"{key}.json"

    def build(target: Path) -> None:
        tokenizer = load_tokenizer(encoder)
        column = dataset.modalities["text"]
        lengths = [
            len(ids)
            for batch in dataset.batches("train", [column])
            for ids in tokenizer([text or "" for text in batch[column].to_pylist()])["input_ids"]
        ]
        target.write_text(json.dumps(float(np.percentile(lengths, 99, method="higher"))))

    build_once(path, build)
    tokens = json.loads(path.read_text())
    return min(int(-(-tokens // 8) * 8), encoder.max_text_length)


def load_tokenizer(encoder: EncoderSource) -> Any:
    """Load an encoder's tokeniser, configured to pad on the right.

    Raises:
        UserError: If the encoder has no tokeniser that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            encoder.location, padding_side="right", trust_remote_code=False
        )
    except Exception as error:  # what a malformed file raises has no class in common
        raise UserError(f"encoder '{encoder.name}' comes without a tokeniser that can be loaded") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _rows_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.arrow"


def _cells_path(folder: Path, split: str, modality: str) -> Path:
    return folder / f"{split}-{modality}.arrow"


def _write_split(
    dataset: Dataset,
    split: str,
    encoders: Mapping[str, EncoderSource],
    info: Mapping[str, Any],
    folder: Path,
    progress: Progress | None,
) -> None:
    where = f"dataset '{dataset.name}', {split} row"
    total = dataset.count(split)
    done = 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        writers = {}
        for modality, encoder in encoders.items():
            schema, convert = (
                _texts(encoder, info["text_length"])
                if modality == "text"
                else _images(pool, info["image_size"])
            )
            file = stack.enter_context(writing_batches(_cells_path(folder, split, modality), schema))
            writers[modality] = CellWriter(file, convert)
        schema = pa.schema({"label": _label_type(dataset.task), **dict.fromkeys(writers, pa.int32())})
        rows_file = stack.enter_context(writing_batches(_rows_path(folder, split), schema))
        columns = [dataset.label, *(dataset.modalities[modality] for modality in writers)]
        for batch in dataset.batches(split, columns):
            labels = dataset.task.encode(batch[dataset.label].to_pylist(), where, done).numpy()
            stored = {"label": _stored_labels(labels)}
            rows = [f"{where} {done + i}" for i in range(batch.num_rows)]
            for modality, writer in writers.items():
                stored[modality] = writer.add(_contents(dataset, modality, batch), rows)
            rows_file.write(pa.record_batch(stored, schema=schema))
            done += batch.num_rows
            if progress:
                progress(split, done, total)
        for writer in writers.values():
            writer.flush()


def _contents(dataset: Dataset, modality: str, batch: pa.RecordBatch) -> list[Content]:
    """Return the contents of a batch's cells; an empty text is a text without characters."""
    values = batch[dataset.modalities[modality]].to_pylist()
    return [text or "" for text in values] if modality == "text" else list(map(image_bytes, values))


def _texts(encoder: EncoderSource, length: int) -> tuple[pa.Schema, Convert]:
    """Return the columns of texts, and the function that tokenises them."""
    tokenizer = load_tokenizer(encoder)
    schema = pa.schema({"text": pa.list_(pa.int32(), length), "text_tokens": pa.int32()})

    def convert(texts: list[Content], _: list[str]) -> dict[str, pa.Array]:
        encoded = tokenizer(texts, truncation=True, max_length=length, padding="max_length")
        ids = np.asarray(encoded["input_ids"], dtype=np.int32)
        # A tokeniser without special tokens turns an empty text into padding only. One position then counts
        # as real, because attention needs at least one real token.
        lengths = np.maximum(np.asarray(encoded["attention_mask"]).sum(axis=1), 1)
        return {
            "text": pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), length),
            "text_tokens": pa.array(lengths.astype(np.int32)),
        }

    return schema, convert


def _images(pool: ThreadPoolExecutor, size: int) -> tuple[pa.Schema, Convert]:
    """Return the column of images, and the function that decodes them in a pool of threads."""
    schema = pa.schema({"image": pa.binary(size * size * 3)})

    def convert(images: list[Content], rows: list[str]) -> dict[str, pa.Array]:
        pixels = pool.map(_pixels, images, repeat(size), rows)
        return {"image": pa.array(list(pixels), type=schema.field("image").type)}

    return schema, convert


def _size(dataset: Dataset, info: Mapping[str, Any], cells: Callable[[str, str], int]) -> int:
    """Return about how many bytes the data take.

    Args:
        dataset: The dataset.
        info: Description of the data.
        cells: Returns the number of stored cells of a split and modality.
    """
    bytes_of = {"text": 4 * info["text_length"] + 4, "image": 3 * info["image_size"] ** 2}
    of_cells = sum(cells(s, modality) * bytes_of[modality] for s in SPLITS for modality in info["modalities"])
    return of_cells + sum(map(dataset.count, SPLITS)) * _ROW_BYTES


def _distinct(dataset: Dataset, split: str, modality: str, progress: Progress | None) -> int:
    """Return the number of distinct cells of a split and modality."""
    found: set[bytes] = set()
    for batch in dataset.batches(split, [dataset.modalities[modality]]):
        found.update(map(digest, _contents(dataset, modality, batch)))
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


def _label_type(task: Task) -> pa.DataType:
    """Return the Arrow type of a task's stored labels: a number, or a list of K numbers."""
    labels = task.example_labels(1).numpy()
    kind = pa.from_numpy_dtype(labels.dtype)
    return kind if labels.ndim == 1 else pa.list_(kind, labels.shape[1])


def _stored_labels(labels: np.ndarray) -> pa.Array:
    """Convert labels (N,) or (N, K) to the Arrow array in which they are stored."""
    numbers = pa.array(labels.ravel())
    return numbers if labels.ndim == 1 else pa.FixedSizeListArray.from_arrays(numbers, labels.shape[1])


def _read_labels(stored: pa.Array) -> np.ndarray:
    """Return the labels (N,) or (N, K) that ``_stored_labels`` converted."""
    if not pa.types.is_fixed_size_list(stored.type):
        return stored.to_numpy()
    return stored.flatten().to_numpy().reshape(len(stored), -1)


def _pixels(data: bytes | None, size: int, where: str) -> bytes:
    if data is None:
        raise UserError(f"{where}: the image is empty")
    try:
        with Image.open(io.BytesIO(data)) as stored:
            image = ImageOps.exif_transpose(stored)
            if image.mode.startswith("I;16"):
                # convert would clip 16-bit values to 8 bits instead of scaling them
                picture = image.point(lambda value: value / 256).convert("L").convert("RGB")
            else:
                picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: the image cannot be decoded ({error})") from error
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size)).tobytes()


def _image_statistics(encoder: EncoderSource | None) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation that the encoder was trained with; ImageNet's by default."""
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    config: Mapping[str, Any] = {}
    if encoder is not None:
        from transformers import ImageProcessingMixin

        try:
            config, _ = ImageProcessingMixin.get_image_processor_dict(encoder.location)
        except OSError:
            config = {}
    mean = config.get("image_mean") or IMAGENET_DEFAULT_MEAN
    std = config.get("image_std") or IMAGENET_DEFAULT_STD
    return list(mean), list(std)
