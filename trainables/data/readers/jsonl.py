"""JSON files: an object on each line, a list of objects, or an object of lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.columns import columns_taken
from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.naming import ending_of, has_split_files, or_gzipped, split_named
from trainables.data.readers.opening import read_text
from trainables.data.readers.tables import Numbered, TablePart, read_tables
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.tasks.labels import listed

_ENDINGS = or_gzipped((".jsonl", ".ndjson", ".json"))
_NAMED = 5  # lines that a message names


@register_reader
class JsonLines(Reader):
    """A JSON file, or one for each split: ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``."""

    name = "jsonl"
    description = "JSON file, an object on each line or a list of them, or a folder with one for each split"

    def recognises(self, path: Path) -> bool:
        """Return whether a file's name ends so, or a folder has such files with the names of splits."""
        return has_split_files(path, _ENDINGS) if path.is_dir() else ending_of(path.name) in _ENDINGS

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the files. Paths are relative to the file's folder."""
        taken = columns_taken(settings.columns)
        read = partial(read_objects, needed=taken)
        found, notes = read_tables(name, path, _ENDINGS, read, taken)
        return Found(found, path if path.is_dir() else path.parent, {}, notes)


def read_objects(name: str, path: Path, needed: Sequence[str] = ()) -> tuple[TablePart, list[str]]:
    """Return the rows of a file, and what the user should know about how they were read.

    Args:
        name: The dataset's name in error messages.
        path: The file.
        needed: Columns whose values must be of one type; others are left out if they are not.

    Raises:
        UserError: If the file is no JSON of a known form. The message names the lines.
    """
    where = f"dataset '{name}': {path.name}"
    text, coding = read_text(name, path)
    notes = [f"{path.name} is read as {coding}, not as UTF-8"] if coding else []
    rows, words = _objects(where, path.name, text)
    if not rows:
        raise UserError(f"{where} has no rows")
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {column: [row.get(column) for row in rows] for column in names}
    typed = {}
    for column, values in columns.items():
        try:
            typed[column] = typed_array(values)
        except MixedError as error:
            if column in needed:
                raise UserError(f"{where}: column '{column}' has {error}; write it as one type") from None
            notes.append(f"{path.name}: column '{column}' is left out, it has {error}")
    return TablePart(path.name, pa.table(typed), words), notes


class MixedError(Exception):
    """The values of a column are of types that have none in common."""


def _objects(where: str, file: str, text: str) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """Return the rows of a file, and what the user calls them."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    alone = _object_of(lines[0][1]) if len(lines) == 1 else None
    if alone is not None and not all(isinstance(value, list | dict) for value in alone.values()):
        if file.lower().endswith(".json") and (nested := _nested(where, alone)):
            raise nested
        return [alone], Numbered(f"{file} line", [lines[0][0]])
    if len(lines) > 1 and text.lstrip()[0] == "{" and any(_object_of(line) for _, line in lines[:_NAMED]):
        return _of_lines(where, file, lines)
    whole = _parsed(where, text)
    if isinstance(whole, dict) and whole and all(isinstance(value, dict) for value in whole.values()):
        raise UserError(
            f"{where} is an object of objects, as pandas writes it by default; write a list of objects, "
            'with orient="records"'
        )
    if isinstance(whole, dict) and whole and all(isinstance(values, list) for values in whole.values()):
        lengths = {len(values) for values in whole.values()}
        if len(lengths) > 1 or any(map(split_named, whole)):
            raise _nested(where, whole) or UserError(
                f"{where} is an object of lists of {min(lengths)} to {max(lengths)} entries; write a list of "
                "objects"
            )
        whole = [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]
    if not isinstance(whole, list):
        if nested := _nested(where, whole):
            raise nested
        keys = ", ".join(list(whole)[:6]) if isinstance(whole, dict) else repr(whole)[:60]
        raise UserError(f"{where} is no list of objects, nor an object on each line; it has {keys}")
    for number, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise UserError(f'{where} entry {number} is no object such as {{"text": …, "label": …}}')
    return whole, Numbered(f"{file} entry", range(1, len(whole) + 1))


def _nested(where: str, whole: Any) -> UserError | None:
    """Return the error for an object some of whose values are lists of rows; None if none is."""
    if not isinstance(whole, dict):
        return None
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value}
    having = [key for key, rows in lists.items() if all(isinstance(row, dict) for row in rows)]
    if not having:
        return None
    if any(map(split_named, having)):
        return UserError(f"{where} has several splits ({', '.join(having)}); write a file for each")
    are = "are lists" if len(having) > 1 else "is a list"
    return UserError(
        f"{where} is an object whose {listed(having)} {are} of objects; write one list, with an object for "
        "each row"
    )


def _of_lines(
    where: str, file: str, lines: Sequence[tuple[int, str]]
) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """Return the objects on some lines.

    Raises:
        UserError: If a line is no object; the message counts such lines by reason.
    """
    rows: list[dict[str, Any]] = []
    bad: dict[str, list[int]] = {}
    for number, line in lines:
        try:
            row = loads(line)
        except ValueError as error:
            bad.setdefault(_reason(error), []).append(number)
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad.setdefault("no object", []).append(number)
    if bad:
        count = sum(len(numbers) for numbers in bad.values())
        said = "; ".join(f"{reason} ({_numbered(numbers)})" for reason, numbers in list(bad.items())[:_NAMED])
        are = "is no JSON object" if count == 1 else "are no JSON objects"
        raise UserError(f"{where}: {count:,} of {len(lines):,} lines {are}: {said}")
    return rows, Numbered(f"{file} line", [number for number, _ in lines])


def _numbered(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}{more}"


def _parsed(where: str, text: str) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        place = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{where}{place} is no JSON: {_reason(error)}") from error


def _reason(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _object_of(text: str) -> dict[str, Any] | None:
    """Return the object that a line is; None if it is none."""
    try:
        found = loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def loads(text: str) -> Any:
    """Return a JSON value; a key that is there twice is an error, and NaN is a missing value."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the key '{name}' has half of a character") from None
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' is there twice")
    return found


def typed_array(values: Sequence[Any]) -> pa.Array:
    """Return values as an array of one type.

    Raises:
        MixedError: If they have none in common.
    """
    kinds = {_kind(value) for value in values if value is not None}
    if kinds == {"numbers", "fractions"}:
        kinds = {"fractions"}
        values = [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        raise MixedError(f"{' and '.join(sorted(kinds))}")
    try:
        if kinds == {"texts"}:
            return pa.array(values, pa.large_string())
        return pa.array(values)
    except UnicodeError:
        raise MixedError("a text with half of a character, such as \\ud83d") from None
    except (pa.ArrowException, OverflowError):
        raise MixedError(f"{kinds.pop() if kinds else 'values'} of types that differ") from None


def _kind(value: Any) -> str:
    """Return the type of a JSON value in words."""
    if isinstance(value, bool):
        return "true and false"
    words = {str: "texts", int: "numbers", float: "fractions", list: "lists"}
    return words.get(type(value), "objects")
