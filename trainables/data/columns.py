"""The columns of a dataset: which modality is where, and which column has the labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trainables.data.kinds import KINDS, kinds_of
from trainables.data.kinds.base import holds_files
from trainables.errors import UserError, unknown
from trainables.tasks.labels import is_list, is_text
from trainables.towers import PRESENCE

#: The keys of a dataset's description, after ``paretofuse.``.
DESCRIPTION = ("modalities", "label", "task", "query", "classes", "delimiter", "range")

_SHOWN = 80  # characters of a type that a message shows

#: The name that stands for the labels in ``--columns``.
LABEL = "label"


@dataclass(frozen=True)
class Modality:
    """Where the values of a modality are.

    Attributes:
        column: Name of the column.
        kind: Name of the kind; one of ``KINDS``.
    """

    column: str
    kind: str


def columns_said(text: str | None) -> dict[str, str]:
    """Return what ``--columns`` says, with the keys of a dataset's metadata.

    Args:
        text: ``NAME=COLUMN`` or ``NAME:KIND=COLUMN``, with commas between them; a column's name that has
            commas stands in double quotes. The name ``label`` stands for the labels. None says nothing.

    Raises:
        UserError: If the text is not of that form.

    Example:
        >>> columns_said("text=caption,label=genre")
        {'paretofuse.modalities': '{"text": {"column": "caption"}}', 'paretofuse.label': 'genre'}
    """
    modalities: dict[str, dict[str, str]] = {}
    said: dict[str, str] = {}
    for written, column in _pairs(text).items():
        name, _, kind = written.partition(":")
        if name == LABEL:
            said["paretofuse.label"] = column
        else:
            modalities[name] = {"column": column, **({"kind": kind} if kind else {})}
    return {**({"paretofuse.modalities": json.dumps(modalities)} if modalities else {}), **said}


def _pairs(text: str | None) -> dict[str, str]:
    """Return the column of each name, or of ``NAME:KIND``, that ``--columns`` lists."""
    found: dict[str, str] = {}
    for part in next(csv.reader([text], skipinitialspace=True)) if text else ():
        name, equals, column = (each.strip() for each in part.partition("="))
        base, colon, kind = name.partition(":")
        if not equals or not base or not column or (colon and (not kind or base == LABEL)):
            raise UserError(f"--columns {text}: write NAME=COLUMN, e.g. text=caption,image=file,label=genre")
        if base in (each.partition(":")[0] for each in found):
            raise UserError(f"--columns {text}: {base} is there twice")
        found[name] = column
    return found


def from_json(name: str, metadata: Mapping[str, str], key: str) -> Any:
    """Return the parsed JSON value of a key in the schema's metadata, or None if the key is not set."""
    try:
        return json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError) as error:
        shown = _short(repr(metadata[key]))
        raise UserError(f"dataset '{name}': schema key {key} is no JSON: {shown}") from error


def columns_taken(text: str | None) -> tuple[str, ...]:
    """Return the columns that ``--columns`` names."""
    return tuple(_pairs(text).values())


def modalities_of(name: str, schema: pa.Schema, described: Mapping[str, Any]) -> dict[str, Modality]:
    """Return the modalities of a description, with the kind of each.

    Args:
        name: The dataset's name in error messages.
        schema: The columns of its files.
        described: A column's name, or an object with ``column`` and ``kind``, by modality.

    Raises:
        UserError: If the description is not of this form, or there is no such column.
    """
    key = f"dataset '{name}': schema key paretofuse.modalities"
    if PRESENCE in described:
        raise UserError(f"{key}: no modality can have the name '{PRESENCE}'")
    found = {}
    for modality, value in described.items():
        given = value if isinstance(value, dict) else {"column": value}
        written, kind = given.get("column"), given.get("kind")
        if not isinstance(written, str) or not {*given} <= {"column", "kind"}:
            raise UserError(f'{key}: {modality} is {value!r}; write "COLUMN" or {{"column": …, "kind": …}}')
        column = column_named(name, schema, written)
        if kind is None:
            fitting = kinds_of(schema.field(column).type)
            # Features may be of anything; other columns are what their modality's name says, if it says it
            named = modality in KINDS and "features" not in fitting
            kind = modality if named or modality in fitting or not fitting else fitting[0]
        if not isinstance(kind, str) or kind not in KINDS:
            raise unknown(f"{key}: kind of {modality}", str(kind), KINDS)
        found[modality] = Modality(column, kind)
    return found


def column_named(name: str, schema: pa.Schema, written: str) -> str:
    """Return the column of a name, which may differ in case and in spaces around it.

    Args:
        name: The dataset's name in error messages.
        schema: The columns.
        written: The name.

    Raises:
        UserError: If there is no such column, or there are several.
    """
    same = [column for column in schema.names if column == written] or [
        column for column in schema.names if column.strip().casefold() == written.strip().casefold()
    ]
    if len(same) > 1:
        raise UserError(f"dataset '{name}' has column '{same[0]}' {_times(same)}; rename or remove one")
    if not same:
        there = ", ".join(schema.names) or "none"
        raise UserError(f"dataset '{name}' has no column '{written}'; its columns: {there}")
    return same[0]


def _times(same: list[str]) -> str:
    return "twice" if len({*same}) == 1 else f"and '{same[1]}'"


def names_files(column: pa.DataType) -> bool:
    """Return whether cells of this type may name files, or have their bytes as text; or lists of such."""
    if is_list(column):
        return names_files(column.value_type) or holds_files(column.value_type)
    if not pa.types.is_struct(column):
        return is_text(column)
    place = column.get_field_index("bytes")
    return column.get_field_index("path") >= 0 or (place >= 0 and is_text(column[place].type))


def check_schema(
    name: str, file: str, schema: pa.Schema, modalities: dict[str, Modality], label: str | None
) -> None:
    """Refuse a part that lacks a column, that has it twice, or that has one of another type.

    Args:
        name: The dataset's name in error messages.
        file: The part's name.
        schema: Its columns.
        modalities: The modalities.
        label: Name of the label column; None if there is none.
    """
    for column in (*(modality.column for modality in modalities.values()), *([label] if label else [])):
        count = schema.names.count(column)
        if count != 1:
            there = f"its columns: {', '.join(schema.names)}"
            has = f"has no column '{column}'" if not count else f"has the column '{column}' {count} times"
            raise UserError(f"dataset '{name}': {file} {has}; {there}")
    for modality in modalities.values():
        stored, kind = schema.field(modality.column).type, KINDS[modality.kind]
        if pa.types.is_null(stored):  # a file in which all values are missing
            continue
        if not kind.takes(stored) and not (kind.of_files and names_files(stored)):
            raise UserError(
                f"dataset '{name}': {file} column '{modality.column}' is {_short(stored)}; expected "
                f"{kind.expected}"
            )


def _short(thing: object) -> str:
    text = str(thing)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def check_description(name: str, metadata: Mapping[str, str]) -> None:
    """Refuse a description with a value of another form than its key has. Tasks check the names of classes.

    Raises:
        UserError: If there is such a value; the message names the key.
    """
    for key, (fits, expected) in _FORMS.items():
        value = from_json(name, metadata, f"paretofuse.{key}")
        if f"paretofuse.{key}" in metadata and not fits(value):
            stated = _short(metadata[f"paretofuse.{key}"])
            raise UserError(f"dataset '{name}': schema key paretofuse.{key} is {stated}; write {expected}")
    for key in ("label", "task", "query"):
        if metadata.get(f"paretofuse.{key}") == "":
            raise UserError(f"dataset '{name}': schema key paretofuse.{key} is empty")


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, list) and all(type(each) in (int, float) for each in value)
    return numbers and len(value) == 2 and value[0] < value[1]


#: Whether a value is of the form of a key, and that form in words.
_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "modalities": (
        lambda value: isinstance(value, dict) and bool(value),
        'an object such as {"text": "COLUMN"}',
    ),
    "delimiter": (lambda value: isinstance(value, str) and bool(value), 'a text such as "|"'),
    "range": (_is_range, "a list of two numbers such as [-3, 3]"),
}
