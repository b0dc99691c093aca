"""SNLI-VE (Xie et al., Visual Entailment, 2019): does a picture of Flickr30k entail a hypothesis?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.published import (
    BadRow,
    LeftOut,
    as_text,
    first_of,
    folder_of,
    path_of,
    read_lines,
    read_names,
    sizes_note,
    split_files,
    table_part,
    text_of,
)
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: Pairs of the published splits.
SIZES = {"train": 529_527, "validation": 17_858, "test": 17_901}
CLASSES = ("entailment", "neutral", "contradiction")
#: Where the pictures may be. The folder of Kaggle's archive has one of the same name inside.
PICTURES = (
    "Flickr30K/flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "flickr30k_images",
    "flickr30k-images",
    "images",
)

#: The label of a pair on which its annotators did not agree.
UNDECIDED = "-"

_SCHEMA = pa.schema(dict.fromkeys(("sentence1", "sentence2", "image", "label"), pa.string()))

#: A pair: what the user calls it, and its cells.
Pair = tuple[str, dict[str, str | None]]


@register_reader
class SNLIVE(Reader):
    """A folder with lists of pairs in JSONL, and the pictures of Flickr30k."""

    name = "snli_ve"
    description = "SNLI-VE as it is generated, or as MoPE and mmbt name its files"

    rank = -1  # its folders also have tables or pictures

    def recognises(self, path: Path) -> bool:
        """Return whether there are the lists that SNLI-VE's generator writes."""
        return (path / "snli_ve_train.jsonl").is_file()

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the pairs; the modality text is the hypothesis, ``sentence2``."""
        folder = folder_of(name, path)
        files = split_files(name, folder, "snli_ve_{}.jsonl", "{}.jsonl")
        if not files:
            raise UserError(f"dataset '{name}': {folder} has no snli_ve_train.jsonl or train.jsonl")
        classes: tuple[str, ...] = CLASSES
        if (folder / "labels.txt").is_file():
            classes = tuple(read_names(name, folder / "labels.txt"))
        damaged, left_out = LeftOut(), LeftOut()
        parse = _Lists(name, folder, classes).pair
        parts = {
            split: table_part(file.name, _decided(read_lines(name, file, parse, damaged), left_out), _SCHEMA)
            for split, file in files.items()
        }
        damaged.refuse(name, settings)
        metadata = {
            "paretofuse.modalities": json.dumps({"text": "sentence2", "image": "image"}),
            "paretofuse.label": "label",
            "paretofuse.task": "classification",
            "paretofuse.classes": json.dumps(classes),
        }
        sizes = {split: part.count() for split, part in parts.items()}
        hard = ("test_hard.jsonl is not read",) if (folder / "test_hard.jsonl").is_file() else ()
        notes = (*left_out.notes(), *damaged.notes(), *hard, *sizes_note(sizes, SIZES))
        return Found({split: [part] for split, part in parts.items()}, folder, metadata, notes)


def _decided(pairs: Iterable[Pair], left_out: LeftOut) -> Iterator[Pair]:
    """Yield the pairs that have a class."""
    for word, cells in pairs:
        if cells["label"] == UNDECIDED:
            left_out.add(f"with the label '{UNDECIDED}', on which the annotators did not agree", word)
        else:
            yield word, cells


@dataclass(frozen=True)
class _Lists:
    """What the lines of a dataset's lists mean."""

    name: str
    folder: Path
    classes: Sequence[str]

    @cached_property
    def pictures(self) -> str:
        """The folder of the pictures that ids name."""
        return first_of(self.name, self.folder, *PICTURES)

    def pair(self, line: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the cells of the pair in a line."""
        label = text_of(line, "gold_label", "label").strip()
        if label not in (*self.classes, UNDECIDED):
            raise BadRow(f"with the label '{label}', which is none of {', '.join(self.classes)}")
        premise = text_of(line, "sentence1") if line.get("sentence1") is not None else None
        cells = {"sentence1": premise, "sentence2": text_of(line, "sentence2"), "label": label}
        # The generator of the lists writes the first key, and the loader beside it reads the second
        number = next((line[key] for key in ("Flickr30K_ID", "Flikr30kID") if key in line), None)
        if number is not None:
            file = as_text(str(number), "id").strip().removesuffix(".jpg")
            return {**cells, "image": f"{self.pictures}/{file}.jpg"}
        if "img" not in line:
            raise BadRow("without Flickr30K_ID, Flikr30kID or img")
        return {**cells, "image": path_of(line, "img")}
