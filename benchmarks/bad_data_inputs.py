"""The inputs that ``bad_data.py`` damages: a small one of each kind, and how a search reads it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from damage_text import text_of
from huggingface_hub import constants
from PIL import Image, features

from trainables.data import SPLITS, Dataset, open_dataset
from trainables.data.kinds import KINDS, Content, Unreadable
from trainables.testing.layouts import LAYOUTS
from trainables.testing.layouts.formats import put
from trainables.testing.tiny import AUDIO_FAMILIES, IMAGE_FAMILIES, TEXT_FAMILIES, saved_encoders
from trainables.towers import check_encoder, image_statistics, load_tower, resolve_encoder
from trainables.towers.tokenizer import load_tokenizer

#: Formats that Pillow writes and reads here, by the ending of their files.
PICTURES = {
    "avif": "AVIF",
    "blp": "BLP",
    "bmp": "BMP",
    "dds": "DDS",
    "dib": "DIB",
    "gif": "GIF",
    "icns": "ICNS",
    "ico": "ICO",
    "im": "IM",
    "jp2": "JPEG2000",
    "jpg": "JPEG",
    "mpo": "MPO",
    "msp": "MSP",
    "pcx": "PCX",
    "png": "PNG",
    "ppm": "PPM",
    "qoi": "QOI",
    "sgi": "SGI",
    "spi": "SPIDER",
    "tga": "TGA",
    "tif": "TIFF",
    "webp": "WEBP",
    "xbm": "XBM",
}
#: The mode of pictures in formats that do not take RGB.
_MODES = {"BLP": "P", "MSP": "1", "XBM": "1", "SPIDER": "F"}

#: Formats of sounds, with the encoding of their samples.
SOUNDS = {
    "wav": "PCM_16",
    "flac": "PCM_16",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "aiff": "PCM_16",
    "au": "FLOAT",
    "caf": "PCM_16",
    "rf64": "PCM_16",
    "w64": "PCM_16",
    "nist": "PCM_16",
}

_FACTS: dict[str, dict[str, Any]] = {
    "image": {"size": 24, "background": [255] * 3, "mean": [0.5] * 3},
    "audio": {"samples": 1600, "bands": None},
}
_WORDS = ["a red square", "the word20 word21 green", "Unknown, words!"]


@dataclass(frozen=True)
class Seen:
    """What was read of an input.

    Attributes:
        rows: What tells rows apart, value by value, and how often it occurs.
        said: Notes and remarks.
    """

    rows: Counter[tuple[str, ...]]
    said: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Subject:
    """A kind of input.

    Attributes:
        name: Its name in the table.
        write: Writes an undamaged one into a folder, and returns its address.
        look: Reads what is at an address. The second argument is the folder.
        of_contents: Whether only its pictures or sounds are damaged.
    """

    name: str
    write: Callable[[Path], str]
    look: Callable[[str, Path], Seen]
    of_contents: bool = False


def look_at_dataset(address: str, folder: Path) -> Seen:
    """Read a dataset as a search does before its first trial: all rows, with pictures and sounds decoded."""
    constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(folder), True
    dataset = open_dataset(address)
    dataset.require_learnable()
    for split in dataset.labeled:
        dataset.labels(split)
    rows: Counter[tuple[str, ...]] = Counter()
    said = {*dataset.notes, *dataset.remarks}
    with ThreadPoolExecutor(1) as pool:
        for split in SPLITS:
            dealt = not {*SPLITS} <= {*dataset.parts}  # then rows may go from one split to another
            for row, bad in _rows(dataset, split, pool):
                rows["" if dealt else f"split: {split}", *row] += 1
                said.update(bad)
    return Seen(rows, frozenset(said))


def _rows(dataset: Dataset, split: str, pool: ThreadPoolExecutor) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the values of each row as texts, and what is wrong with it."""
    columns = {modality: where.column for modality, where in dataset.modalities.items()}
    labeled = dataset.task.has_labels and split in dataset.labeled
    for batch in dataset.batches(split, [*columns.values(), *([dataset.label] if labeled else [])]):
        values: dict[str, list[str]] = {}
        bad: list[list[str]] = [[] for _ in range(batch.num_rows)]
        for modality, where in dataset.modalities.items():
            contents = dataset.contents(modality, batch)
            values[modality] = _shown(where.kind, contents, bad, pool)
        if labeled:
            values["label"] = list(map(text_of, batch[dataset.label].to_pylist()))
        for place in range(batch.num_rows):
            yield [f"{name}: {each[place]}" for name, each in values.items()], bad[place]


def _shown(kind: str, contents: list[Content], bad: list[list[str]], pool: ThreadPoolExecutor) -> list[str]:
    """Return contents as texts; those of pictures and sounds are hashes of what they decode to."""
    for place, content in enumerate(contents):
        if isinstance(content, Unreadable):
            bad[place].append(content.reason)
    contents = [None if isinstance(content, Unreadable) else content for content in contents]
    if kind in _FACTS:
        encoder: Any = None  # of which neither kind needs anything here
        converted = KINDS[kind].convert(encoder, _FACTS[kind], pool)(contents)
        for place, why in converted.bad.items():
            bad[place].append(why.reason)
        for place, lines in converted.warned.items():
            bad[place] += lines
        cells = zip(*(column.to_pylist() for column in converted.columns.values()), strict=True)
        return [_hash(repr(cell).encode()) for cell in cells]
    return [_hash(each.tobytes()) if isinstance(each, np.ndarray) else str(each) for each in contents]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def look_at_encoder(modality: str, address: str, folder: Path) -> Seen:
    """Check an encoder and load it twice: its weights, its tokens of some texts, its statistics of pixels."""
    source = resolve_encoder(modality, address)
    check_encoder(source)
    first, second = (_weights(load_tower(source).model) for _ in range(2))
    if first != second:
        raise AssertionError("two weights for one encoder")
    facts: list[Any] = []
    if modality == "text":
        facts = load_tokenizer(source)(_WORDS)["input_ids"]
    elif modality == "image":
        facts = [*zip(*image_statistics(source), strict=True)]
    return Seen(Counter([*first, *((f"fact {n}", str(fact)) for n, fact in enumerate(facts))]))


def _weights(model: Any) -> list[tuple[str, ...]]:
    return [(name, _hash(value.numpy().tobytes())) for name, value in model.state_dict().items()]


def _table(folder: Path, modality: str, files: list[bytes], ending: str) -> str:
    """Write a table with pictures or sounds beside it."""
    splits = [("train", 4), ("validation", 2), ("test", 2)]
    lines, numbered = [], enumerate(files)
    for split, count in splits:
        for _ in range(count):
            number, file = next(numbered)
            path = put(folder / "files" / f"{number}.{ending}", file)
            line = {
                "text": f"text {number}",
                modality: str(path.relative_to(folder)),
                "label": "ab"[number % 2],
            }
            lines.append(json.dumps({**line, "split": split}))
    return str(put(folder / "rows.jsonl", "\n".join(lines)))


def _pictures(ending: str, folder: Path) -> str:
    files = []
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((64, 64) if ending == "icns" else (32, 40))
        file = io.BytesIO()
        form = PICTURES[ending]
        more = {"save_all": True, "append_images": [picture.rotate(9)]} if form in ("GIF", "MPO") else {}
        picture.convert(_MODES.get(form, "RGB")).save(file, form, **more)
        files.append(file.getvalue())
    return _table(folder, "image", files, ending)


def _sounds(ending: str, folder: Path) -> str:
    files = []
    for number in range(8):
        samples = np.random.default_rng(number).normal(scale=0.1, size=4000)
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, SOUNDS[ending], "BIG" if ending == "au" else None, ending)
        files.append(file.getvalue())
    return _table(folder, "audio", files, ending)


def _encoder(family: str, folder: Path) -> str:
    for path in saved_encoders()[family].iterdir():
        put(folder / path.name, path.read_bytes())
    return str(folder)


def _can_write(form: str) -> bool:
    """Return whether Pillow has the library for a format here."""
    needed = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
    return form not in needed or features.check(needed[form])


def subjects() -> dict[str, Subject]:
    """Return all kinds of inputs by name."""
    found = [Subject(f"dataset: {name}", write, look_at_dataset) for name, write in LAYOUTS.items()]
    for ending, form in PICTURES.items():
        if _can_write(form):
            write = functools.partial(_pictures, ending)
            found.append(Subject(f"picture: {form}", write, look_at_dataset, of_contents=True))
    for ending in SOUNDS:
        write = functools.partial(_sounds, ending)
        found.append(Subject(f"sound: {ending.upper()}", write, look_at_dataset, of_contents=True))
    families = {"text": TEXT_FAMILIES, "image": IMAGE_FAMILIES, "audio": AUDIO_FAMILIES}
    for modality, names in families.items():
        for name in names:
            write = functools.partial(_encoder, name)
            look = functools.partial(look_at_encoder, modality)
            found.append(Subject(f"encoder: {name}", write, look))
    return {subject.name: subject for subject in found}


def parquet_bytes() -> bytes:
    """Return a small Parquet file."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), file)
    return file.getvalue()
