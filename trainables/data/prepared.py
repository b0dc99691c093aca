"""Datasets that are decoded, resized and tokenised once, into memory-mapped Arrow files for all trials."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
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

_FORMAT = 2  # increase when the layout below changes
_ROWS = 512

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset: a folder with one Arrow file per split and ``prepared.json``.

    Any process of the node can open it by its path alone.
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
        return PreparedSplit(self.folder / f"{name}.arrow", self.info)


class PreparedSplit:
    """The rows of one split, read directly from the memory map."""

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self._info = info
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._parts = [self._views(reader.get_batch(i)) for i in range(reader.num_record_batches)]
        self.labels = torch.from_numpy(np.concatenate([part["label"] for part in self._parts]))

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, modality: str, rows: Tensor) -> dict[str, Tensor]:
        """Return an encoder's inputs for the given rows.

        Args:
            modality: ``text`` returns ``input_ids`` (B, T) and ``attention_mask`` (B, T). ``image`` returns
                normalised ``pixel_values`` (B, 3, S, S).
            rows: Row numbers, shape (B,).
        """
        if modality == "text":
            ids = torch.from_numpy(self._take("text", rows)).long()
            return {"input_ids": ids, "attention_mask": self.mask(rows)}
        pixels = torch.from_numpy(self._take("image", rows)).permute(0, 3, 1, 2)
        mean = torch.tensor(self._info["image_mean"]).view(3, 1, 1)
        std = torch.tensor(self._info["image_std"]).view(3, 1, 1)
        return {"pixel_values": ((pixels.float() / 255 - mean) / std).contiguous()}

    def mask(self, rows: Tensor) -> Tensor:
        """Return a mask that is True for real text tokens, shape (B, T)."""
        lengths = torch.from_numpy(self._take("text_tokens", rows))
        return torch.arange(self._info["text_length"])[None] < lengths[:, None]

    def _take(self, column: str, rows: Tensor) -> np.ndarray:
        return np.stack([self._parts[row // _ROWS][column][row % _ROWS] for row in rows.tolist()])

    def _views(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        n, size = batch.num_rows, self._info["image_size"]
        views = {"label": _read_labels(batch["label"])}
        if "text" in batch.schema.names:
            views["text"] = batch["text"].flatten().to_numpy().reshape(n, self._info["text_length"])
            views["text_tokens"] = batch["text_tokens"].to_numpy()
        if "image" in batch.schema.names:
            pixels = np.frombuffer(batch["image"].buffers()[1], dtype=np.uint8)
            views["image"] = pixels[: n * size * size * 3].reshape(n, size, size, 3)
        return views


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
        _make_room(folder, sum(map(dataset.count, SPLITS)) * _row_bytes(info))
        target.mkdir()
        for split in SPLITS:
            _write_split(dataset, split, encoders, info, target / f"{split}.arrow", progress)
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


def _write_split(
    dataset: Dataset,
    split: str,
    encoders: Mapping[str, EncoderSource],
    info: Mapping[str, Any],
    path: Path,
    progress: Progress | None,
) -> None:
    size, length = info["image_size"], info["text_length"]
    fields = [pa.field("label", _label_type(dataset.task))]
    tokenizer = None
    if "text" in encoders:
        tokenizer = load_tokenizer(encoders["text"])
        fields += [
            pa.field("text", pa.list_(pa.int32(), length)),
            pa.field("text_tokens", pa.int32()),
        ]
    if "image" in encoders:
        fields.append(pa.field("image", pa.binary(size * size * 3)))
    schema = pa.schema(fields)
    total = dataset.count(split)
    done = 0
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for batch in _regular(dataset, split, encoders):
            where = f"dataset '{dataset.name}', {split} row"
            labels = dataset.task.encode(batch[dataset.label], where, done).numpy()
            columns: dict[str, Any] = {"label": _stored_labels(labels)}
            if tokenizer is not None:
                texts = [text or "" for text in batch[dataset.modalities["text"]]]
                encoded = tokenizer(texts, truncation=True, max_length=length, padding="max_length")
                ids = np.asarray(encoded["input_ids"], dtype=np.int32)
                columns["text"] = pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), length)
                lengths = np.asarray(encoded["attention_mask"]).sum(axis=1)
                # A tokeniser without special tokens turns an empty text into padding only. One position
                # then counts as real, because attention needs at least one real token.
                columns["text_tokens"] = pa.array(np.maximum(lengths, 1).astype(np.int32))
            if "image" in encoders:
                cells = batch[dataset.modalities["image"]]
                rows = range(done, done + len(cells))
                pixels = pool.map(_pixels, cells, repeat(size), (f"{where} {row}" for row in rows))
                columns["image"] = pa.array(list(pixels), type=schema.field("image").type)
            writer.write(pa.record_batch([columns[field.name] for field in schema], schema=schema))
            done += len(batch[dataset.label])
            if progress:
                progress(split, done, total)


def _row_bytes(info: Mapping[str, Any]) -> int:
    """Return about how many bytes a row takes."""
    image = 3 * info["image_size"] ** 2 if "image" in info["modalities"] else 0
    return image + 4 * info["text_length"] + 16


def _make_room(folder: Path, size: int) -> None:
    """Remove the prepared data that were not used for longest until more fit the limit and the disk.

    What a process uses stays. New data are prepared even if they exceed the limit, because no trial can run
    without them.

    Raises:
        DiskFullError: If the disk has less than ``size`` bytes left.
    """
    entries = entries_of(folder)
    excess = max(sum(map(size_of, entries)) + size - LIMIT, size - free_space(folder))
    for entry in sorted(entries, key=last_used):
        if excess <= 0:
            break
        entry_size = size_of(entry)
        with contextlib.suppress(OSError):  # it may be another user's
            excess -= entry_size if remove(entry) else 0
    if free_space(folder) < size:
        raise disk_full(folder, ADVICE, size)


def _regular(
    dataset: Dataset, split: str, encoders: Mapping[str, EncoderSource]
) -> Iterator[dict[str, list[Any]]]:
    """Yield batches of ``_ROWS`` rows, only the last may be smaller, so that row numbers determine places."""
    columns = [dataset.label, *(dataset.modalities[modality] for modality in encoders)]
    held: dict[str, list[Any]] = {column: [] for column in columns}
    for batch in dataset.batches(split, columns, _ROWS):
        for column in columns:
            held[column] += batch[column].to_pylist()
        while len(held[dataset.label]) >= _ROWS:
            yield {column: values[:_ROWS] for column, values in held.items()}
            held = {column: values[_ROWS:] for column, values in held.items()}
    if held[dataset.label]:
        yield held


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


def _pixels(cell: Any, size: int, where: str) -> bytes:
    data = image_bytes(cell)
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
