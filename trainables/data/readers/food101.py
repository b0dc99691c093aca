"""UPMC Food-101 (Wang et al., ICME 2015): pictures of dishes with the titles or texts of their web pages."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.published import (
    IMAGE_AND_TEXT,
    BadRow,
    LeftOut,
    as_object,
    as_text,
    either,
    first_of,
    folder_of,
    path_of,
    read_json,
    read_lines,
    read_names,
    read_splits,
    read_text,
    sizes_note,
    split_files,
    table_part,
    text_of,
    texts_of,
)
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: Pictures of the published splits.
SIZES = {"train": 67_988, "test": 22_716}

_SCHEMA = pa.schema({"text": pa.string(), "image": pa.string(), "label": pa.string()})
_SUFFIXES = (".jpg", ".jpeg", ".png")
_PICTURE = re.compile(r"(?P<label>.+)_(?P<number>[\d-]+)\.(jpe?g|png)", re.IGNORECASE)
_LINE = re.compile(r"\s*[^,]+_[\d-]+\.(jpe?g|png)\s*,.*", re.IGNORECASE)  # of titles

#: A dish: what the user calls it, and its cells.
Dish = tuple[str, dict[str, Any]]


@register_reader
class Food101(Reader):
    """A folder with lists in JSONL or JSON, or with pictures and titles or texts."""

    name = "food101"
    description = "UPMC Food-101 with titles or whole texts, or as mmbt, MoPE and others prepare it"

    rank = -1  # its folders also have tables or pictures

    def recognises(self, path: Path) -> bool:
        """Return whether there are pictures of two splits and their titles or texts."""
        texts = (*(f"{each}/train_titles.csv" for each in ("texts", "text")), "texts_txt", "text.json")
        pictures = path / "images" / "train"
        return pictures.is_dir() and any((path / each).exists() for each in texts)

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the dishes of the first layout that is there; lists come before what they are made from."""
        folder = folder_of(name, path)
        damaged, left_out = LeftOut(), LeftOut()
        files, dishes = _listings(name, folder, damaged, left_out)
        damaged.refuse(name, settings)
        sizes = {split: len(rows) for split, rows in dishes.items()}
        sizes["train"] += sizes.pop("validation", 0)  # from which the papers take those of validation
        parts = {
            split: [table_part(files[split], _with_text(rows, left_out), _SCHEMA)]
            for split, rows in dishes.items()
        }
        classes = _classes(name, folder)
        metadata = {
            "paretofuse.modalities": IMAGE_AND_TEXT,
            "paretofuse.label": "label",
            "paretofuse.task": "classification",
            **({"paretofuse.classes": json.dumps(classes)} if classes else {}),
        }
        notes = (*left_out.notes(), *damaged.notes(), *sizes_note(sizes, SIZES))
        return Found(parts, folder, metadata, notes)


def _listings(
    name: str, folder: Path, damaged: LeftOut, left_out: LeftOut
) -> tuple[dict[str, str], dict[str, list[Dish]]]:
    """Return the names of the files that list each split, and its dishes."""
    if lists := split_files(name, folder, "{}.jsonl"):
        dishes = {split: list(read_lines(name, file, _listed, damaged)) for split, file in lists.items()}
    elif (folder / "split.json").is_file():
        dishes = _split_json(name, folder, damaged)
        return dict.fromkeys(dishes, "split.json"), dishes
    elif lists := split_files(name, folder, "{}.json"):
        dishes = {split: _tokens(name, file, damaged) for split, file in lists.items()}
    elif (folder / "texts_txt").is_dir():
        dishes = {split: _texts(name, folder, split, damaged) for split in SIZES}
        _find_alone(folder, dishes, left_out)
        return {split: f"images/{split}" for split in SIZES}, dishes
    elif lists := split_files(name, folder, "texts/{}_titles.csv", "text/{}_titles.csv"):
        dishes = {split: list(_titles(name, file, split)) for split, file in lists.items()}
    else:
        looked_for = ("train.jsonl", "split.json", "train.json", "texts_txt", "texts/train_titles.csv")
        raise UserError(f"dataset '{name}': {folder} has no {either(looked_for)}")
    return {split: file.name for split, file in lists.items()}, dishes


def _classes(name: str, folder: Path) -> list[str] | None:
    """Return the classes in the order that a file states; None if none does."""
    if (folder / "labels.txt").is_file():
        return read_names(name, folder / "labels.txt")
    if not (folder / "class_idx.json").is_file():
        return None
    numbers = read_json(name, folder / "class_idx.json", dict)
    if sorted(map(repr, numbers.values())) != sorted(map(repr, range(len(numbers)))):
        raise UserError(f"dataset '{name}': class_idx.json does not number its classes from 0 on")
    return sorted(numbers, key=numbers.__getitem__)


def _with_text(dishes: list[Dish], left_out: LeftOut) -> list[Dish]:
    """Return the dishes that have a text, as the papers do."""
    for word, dish in dishes:
        if not (dish["text"] or "").strip():
            left_out.add("without a text", word)
    return [(word, dish) for word, dish in dishes if (dish["text"] or "").strip()]


def _dish(text: str | None, image: str | None, label: str) -> dict[str, Any]:
    return {"text": text, "image": image, "label": label.strip()}


def _listed(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dish of a JSONL list."""
    return _dish(text_of(line, "text"), path_of(line, "img", "image"), text_of(line, "label"))


def _tokens(name: str, path: Path, damaged: LeftOut) -> list[Dish]:
    """Return the dishes of a JSON list, whose texts are lists of words."""
    dishes = []
    for number, value in enumerate(read_json(name, path, list)):
        word = f"{path.name} entry {number}"
        with damaged.reading(word):
            entry = as_object(value)
            text = " ".join(texts_of(entry, "text_tokens"))
            dishes.append((word, _dish(text, path_of(entry, "img_path"), text_of(entry, "label"))))
    return dishes


def _split_json(name: str, folder: Path, damaged: LeftOut) -> dict[str, list[Dish]]:
    """Return the dishes of ``split.json``, whose texts are in ``text.json``."""
    texts = read_json(name, folder / first_of(name, folder, "text.json"), dict)
    dishes: dict[str, list[Dish]] = {}
    for split, pictures in read_splits(name, folder / "split.json").items():
        below = "test" if split == "test" else "train"  # where the pictures of validation are, too
        dishes[split] = []
        for picture in pictures:
            with damaged.reading(f"split.json {picture}"):
                label, _ = _label_and_number(as_text(picture, "picture"))
                text = as_text(texts[picture], "text") if picture in texts else None
                cells = _dish(text, f"images/{below}/{label}/{picture}", label)
                dishes[split].append((picture, cells))
    return dishes


def _texts(name: str, folder: Path, split: str, damaged: LeftOut) -> list[Dish]:
    """Return the pictures of a split, whose texts are files of their own."""
    pictures = folder / "images" / split
    if not pictures.is_dir():
        raise UserError(f"dataset '{name}': {folder} has texts_txt, but no images/{split}")
    dishes = []
    for picture in sorted(pictures.glob("*/[!.]*")):
        if picture.suffix.lower() not in _SUFFIXES:
            continue
        label, path = picture.parent.name, picture.relative_to(folder).as_posix()
        with damaged.reading(path):
            _, number = _label_and_number(picture.name)
            text = _text(folder / "texts_txt" / label / f"{label}_{number}.txt")
            dishes.append((picture.name, _dish(text, path, label)))
    return dishes


def _find_alone(folder: Path, dishes: Mapping[str, list[Dish]], left_out: LeftOut) -> None:
    """Count the texts that have no picture."""
    of_pictures = {
        f"{dish['label']}/{dish['label']}_{_label_and_number(picture)[1]}.txt"
        for of_split in dishes.values()
        for picture, dish in of_split
    }
    texts = folder / "texts_txt"
    there = {path.relative_to(texts).as_posix() for path in texts.glob("*/[!.]*.txt")}
    for text in sorted(there - of_pictures):
        left_out.add("without a picture", f"texts_txt/{text}")


def _text(path: Path) -> str | None:
    """Return the text of a file; None if it is not there."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise BadRow("with a text that is not in UTF-8") from error


def _label_and_number(picture: str) -> tuple[str, str]:
    """Return the class and the number from a picture's name.

    Raises:
        BadRow: If it has none.
    """
    found = _PICTURE.fullmatch(picture)
    if found is None:
        raise BadRow("with a picture that is not called CLASS_NUMBER.jpg")
    return found["label"], found["number"]


def _titles(name: str, path: Path, split: str) -> Iterator[Dish]:
    """Yield the dishes of a CSV file without a header: picture, title, class.

    Raises:
        UserError: If a line has another number of fields, or a quote is left open.
    """
    reader = csv.reader(io.StringIO(read_text(name, path), newline=""), strict=True)
    where, line = f"dataset '{name}': {path.name} line", 1
    try:
        for fields in reader:
            if fields and len(fields) != 3:
                raise UserError(f"{where} {line} has {len(fields)} fields; expected picture, title, class")
            if fields:
                picture, title, label = (field.strip() for field in fields)
                if not _PICTURE.fullmatch(picture):
                    raise UserError(f"{where} {line}: '{picture}' is no picture's name such as sushi_12.jpg")
                if any(_LINE.fullmatch(each) for each in title.split("\n")[1:]):
                    raise UserError(f"{where} {line}: a quote is left open, and takes in the lines behind it")
                yield f"{path.name} line {line}", _dish(title, f"images/{split}/{label}/{picture}", label)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{where} {line} is no CSV ({error})") from error
