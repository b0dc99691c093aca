"""What the readers of published datasets share: files with several names, lists of rows, what is left out."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from trainables.data.readers.tables import TablePart
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

Row = TypeVar("Row")

#: The names that splits have in files.
SPLIT_NAMES = {"train": ("train",), "validation": ("dev", "val", "valid", "validation"), "test": ("test",)}

#: What a row of the parts says: an image is a path.
IMAGE_AND_TEXT = json.dumps({"text": "text", "image": "image"})

_SHOWN = 3  # rows that a message names
_LOT = 4096  # rows that become Arrow's at a time


class BadRow(ValueError):
    """A row of a list cannot be understood. The message is the reason, without the row."""


@dataclass
class LeftOut:
    """Rows of a dataset that a reader leaves out, by reason."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, row: str) -> None:
        """Count a row.

        Args:
            reason: Why, as words behind a number: "without a plot".
            row: What the user calls it.
        """
        self.reasons.setdefault(reason, []).append(row)

    @contextmanager
    def reading(self, row: str) -> Iterator[None]:
        """Count a row if it turns out to be a ``BadRow``."""
        try:
            yield
        except BadRow as error:
            self.add(str(error), row)

    def in_words(self) -> Iterator[str]:
        """Yield how many rows there are of each reason, and the first of them."""
        for reason, rows in self.reasons.items():
            shown = ", ".join(rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
            yield f"{len(rows):,} {reason} ({shown})"

    def notes(self) -> tuple[str, ...]:
        """Return the same as sentences for the user."""
        return tuple(f"left out: {words}" for words in self.in_words())

    def refuse(self, name: str, settings: ReadingSettings) -> None:
        """Refuse the dataset if there are such rows and the user wants no damaged row left out.

        Raises:
            UserError: If so. One message counts all of them.
        """
        if self.reasons and settings.bad_rows == "error":
            count = sum(map(len, self.reasons.values()))
            raise UserError(
                f"dataset '{name}': rows cannot be read: {count:,}, of them {'; '.join(self.in_words())}; "
                "--bad-rows skip leaves them out"
            )


def folder_of(name: str, path: Path) -> Path:
    """Return the path if it is a folder.

    Raises:
        UserError: If it is a file.
    """
    if not path.is_dir():
        raise UserError(f"dataset '{name}': {path} is a file; name the folder of the dataset")
    return path


def first_of(name: str, folder: Path, *candidates: str) -> str:
    """Return the first file or folder that is there.

    Args:
        name: The dataset's name in error messages.
        folder: The folder that has it.
        candidates: Its possible names.

    Raises:
        UserError: If none is there.
    """
    there = next((each for each in candidates if (folder / each).exists()), None)
    if there is None:
        raise UserError(f"dataset '{name}': {folder} has no {either(candidates)}")
    return there


def split_of(name: str, where: str, word: str) -> str:
    """Return the split that has a name in a file.

    Raises:
        UserError: If no split has that name.
    """
    for split, words in SPLIT_NAMES.items():
        if word in words:
            return split
    known = ", ".join(each for words in SPLIT_NAMES.values() for each in words)
    raise UserError(f"dataset '{name}': {where} has a split '{word}'; known: {known}")


def split_files(name: str, folder: Path, *patterns: str) -> dict[str, Path]:
    """Return the files of the splits that are there.

    Args:
        name: The dataset's name in error messages.
        folder: The folder that has them.
        patterns: What they are called, with ``{}`` for the name of the split. The first that fits is taken.

    Raises:
        UserError: If two different files are of one split, or if there are files but none of train.
    """
    found = {}
    for split, words in SPLIT_NAMES.items():
        there = [
            path
            for pattern in patterns
            for word in words
            if (path := folder / pattern.format(word)).is_file()
        ]
        for other in there[1:]:  # a copy of dev.jsonl may have been made for a program that reads val.jsonl
            if not filecmp.cmp(there[0], other, shallow=False):
                raise UserError(
                    f"dataset '{name}': {there[0].name} and {other.name} differ, and both are of the {split} "
                    "split; remove one"
                )
        if there:
            found[split] = there[0]
    if found and "train" not in found:
        named = " or ".join(pattern.format("train") for pattern in patterns)
        raise UserError(f"dataset '{name}': {folder} has {found.popitem()[1].name}, but no {named}")
    return found


def either(candidates: Iterable[str]) -> str:
    """Return names with "or" between the last two."""
    *others, last = candidates
    return f"{', '.join(others)} or {last}" if others else last


def read_text(name: str, path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"dataset '{name}': {path} is no text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"dataset '{name}': {path} cannot be read ({error.strerror})") from error


def read_json(name: str, path: Path, kind: type[Row]) -> Row:
    """Return the value of a JSON file.

    Args:
        name: The dataset's name in error messages.
        path: The file.
        kind: ``dict`` or ``list``.

    Raises:
        UserError: If it is no JSON, or of another kind.
    """
    text = read_text(name, path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"dataset '{name}': {path} is not JSON ({error})") from error
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a list"
        raise UserError(f"dataset '{name}': {path} has {_kind(value)}; expected {expected}")
    return value


def read_splits(name: str, path: Path) -> dict[str, list[Any]]:
    """Return the list of each split from a JSON object, that of train first.

    Raises:
        UserError: If it is none, if a split is unknown or there twice, or if train is not there.
    """
    found: dict[str, list[Any]] = {}
    for word, listed in read_json(name, path, dict).items():
        split = split_of(name, path.name, word)
        if not isinstance(listed, list) or split in found:
            fault = "twice" if split in found else f"as {_kind(listed)}; expected a list"
            raise UserError(f"dataset '{name}': {path.name} has the {split} split {fault}")
        found[split] = listed
    if "train" not in found:
        raise UserError(f"dataset '{name}': {path.name} has no 'train'")
    return {"train": found.pop("train"), **found}


def read_lines(
    name: str, path: Path, parse: Callable[[Mapping[str, Any]], Row], damaged: LeftOut
) -> Iterator[tuple[str, Row]]:
    """Yield what the user calls the lines of a JSONL file, and what was made of them.

    Args:
        name: The dataset's name in error messages.
        path: The file: a JSON object a line, in UTF-8.
        parse: Makes a row from an object; raises ``BadRow`` if it cannot.
        damaged: Takes the lines that are not understood.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                word = f"{path.name} line {number}"
                with damaged.reading(word):
                    yield word, parse(parsed_object(line))
    except OSError as error:
        raise UserError(f"dataset '{name}': {path} cannot be read ({error.strerror})") from error


def parsed_object(text: bytes) -> Mapping[str, Any]:
    """Return a JSON object from its text in UTF-8, with or without a byte order mark.

    Raises:
        BadRow: If it is none.
    """
    try:
        return as_object(json.loads(text.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise BadRow("not in UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRow("without JSON") from error


def as_object(value: Any) -> Mapping[str, Any]:
    """Return a value that is an object.

    Raises:
        BadRow: If it is something else.
    """
    if not isinstance(value, dict):
        raise BadRow(f"with {_kind(value)} and no object")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _quoted(keys: Iterable[str]) -> str:
    return either([f"'{key}'" for key in keys])


def value_of(row: Mapping[str, Any], *keys: str) -> Any:
    """Return the value of the first key that a row has.

    Raises:
        BadRow: If it has none of them.
    """
    for key in keys:
        if key in row:
            return row[key]
    raise BadRow(f"without {_quoted(keys)}")


def text_of(row: Mapping[str, Any], *keys: str) -> str:
    """Return the text of the first key that a row has.

    Raises:
        BadRow: If it has none of them, or something else than a text.
    """
    return as_text(value_of(row, *keys), _quoted(keys))


def path_of(row: Mapping[str, Any], *keys: str) -> str | None:
    """Return the path of the first key that a row has; None if it names no file.

    Raises:
        BadRow: If it has none of them, or something else than a text.
    """
    return None if value_of(row, *keys) is None else text_of(row, *keys).strip() or None


def as_text(value: Any, what: str) -> str:
    """Return a value that is a text.

    Raises:
        BadRow: If it is something else, or has halves of characters, which no file can hold.
    """
    if not isinstance(value, str):
        raise BadRow(f"with {_kind(value)} as {what}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"with half a character in {what}") from error
    return value


def texts_of(row: Mapping[str, Any], *keys: str) -> list[str]:
    """Return the list of texts of the first key that a row has.

    Raises:
        BadRow: If it has none of them, or something else than a list of texts.
    """
    value = value_of(row, *keys)
    if not isinstance(value, list):
        raise BadRow(f"with {_kind(value)} as {_quoted(keys)}")
    return [as_text(each, f"part of {_quoted(keys)}") for each in value]


def read_names(name: str, path: Path) -> list[str]:
    """Return the names of classes from a file with one a line, without blanks around them.

    Raises:
        UserError: If a name is there twice, or none.
    """
    names = [line.strip() for line in read_text(name, path).split("\n") if line.strip()]
    twice = next((each for number, each in enumerate(names) if each in names[:number]), None)
    if twice is not None or not names:
        what = "no class" if twice is None else f"the class '{twice}' twice"
        raise UserError(f"dataset '{name}': {path} has {what}")
    return names


def sizes_note(found: Mapping[str, int], published: Mapping[str, int], what: str = "rows") -> tuple[str, ...]:
    """Return a note if splits have other numbers of rows than the published dataset.

    Args:
        found: The number of rows of each split that was found.
        published: Those of the published dataset.
        what: What is counted.
    """
    differing = [
        f"{split} has {found.get(split, 0):,} (published: {size:,})"
        for split, size in published.items()
        if found.get(split, 0) != size
    ]
    return (f"other numbers of {what} than published: {', '.join(differing)}",) if differing else ()


def table_part(file: str, rows: Iterable[tuple[str, Mapping[str, Any]]], schema: pa.Schema) -> TablePart:
    """Return a part with rows in memory.

    Args:
        file: The name of the file that lists them.
        rows: What the user calls each row, and its cells by column.
        schema: The columns.
    """
    rows, words = iter(rows), []
    batches = []
    while lot := list(islice(rows, _LOT)):  # as Arrow's arrays take much less memory
        words += [word for word, _ in lot]
        batches.append(pa.RecordBatch.from_pylist([cells for _, cells in lot], schema))
    return TablePart(file, pa.Table.from_batches(batches, schema), words)
