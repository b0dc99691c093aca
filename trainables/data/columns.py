"""The columns of a dataset: which modality is where, and which column has the labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trainables.data.kinds import KINDS, kinds_of
from trainables.errors import UserError, unknown
from trainables.towers import PRESENCE

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
    for part in next(csv.reader([text], skipinitialspace=True)) if text else ():
        name, equals, column = (each.strip() for each in part.partition("="))
        name, colon, kind = name.partition(":")
        if not equals or not name or not column or (colon and not kind):
            raise UserError(f"--columns {text}: write NAME=COLUMN, e.g. text=caption,image=file,label=genre")
        if name == LABEL:
            said["paretofuse.label"] = column
        else:
            modalities[name] = {"column": column, **({"kind": kind} if kind else {})}
    return {**({"paretofuse.modalities": json.dumps(modalities)} if modalities else {}), **said}


def from_json(name: str, metadata: Mapping[str, str], key: str) -> Any:
    """Return the parsed JSON value of a key in the schema's metadata, or None if the key is not set."""
    try:
        return json.loads(metadata.get(key, "null"))
    except ValueError as error:
        raise UserError(f"dataset '{name}': schema key {key} is no JSON: {metadata[key]!r}") from error


def modalities_of(name: str, schema: pa.Schema, described: Any) -> dict[str, Modality]:
    """Return the modalities that a dataset's description lists, or else those with the name of a kind.

    Args:
        name: The dataset's name in error messages.
        schema: The schema of its files.
        described: A column's name, or an object with ``column`` and ``kind``, by modality; or None.
    """
    if described is None:
        described = {kind: kind for kind in KINDS if kind in schema.names}
        if not described:
            raise UserError(
                f"dataset '{name}': no column has the name of a kind ({', '.join(KINDS)}); its columns: "
                f"{', '.join(schema.names)}; schema key paretofuse.modalities names others"
            )
    key = f"dataset '{name}': schema key paretofuse.modalities"
    if not isinstance(described, dict) or not described:
        raise UserError(f'{key} is {described!r}; write it as {{"text": "COLUMN"}}')
    if PRESENCE in described:
        raise UserError(f"{key}: no modality can have the name '{PRESENCE}'")
    found = {}
    for modality, value in described.items():
        given = value if isinstance(value, dict) else {"column": value}
        column, kind = given.get("column"), given.get("kind")
        if not isinstance(column, str) or not {*given} <= {"column", "kind"}:
            raise UserError(f'{key}: {modality} is {value!r}; write "COLUMN" or {{"column": …, "kind": …}}')
        if kind is None:
            fitting = kinds_of(schema.field(column).type) if column in schema.names else []
            # Features may be of anything; other columns are what their modality's name says, if it says it
            named = modality in KINDS and "features" not in fitting
            kind = modality if named or modality in fitting or not fitting else fitting[0]
        if kind not in KINDS and column in schema.names:
            raise unknown(f"{key}: kind of {modality}", str(kind), KINDS)
        found[modality] = Modality(column, kind)
    return found


def names_files(column: pa.DataType) -> bool:
    """Return whether cells of this type may name files."""
    return KINDS["text"].takes(column) or (pa.types.is_struct(column) and column.get_field_index("path") >= 0)


def check_schema(
    name: str, file: str, schema: pa.Schema, modalities: dict[str, Modality], label: str | None
) -> None:
    """Refuse a part that lacks a column, or that has one of another type.

    Args:
        name: The dataset's name in error messages.
        file: The part's name.
        schema: Its columns.
        modalities: The modalities.
        label: Name of the label column; None if there is none.
    """
    for column in (*(modality.column for modality in modalities.values()), *([label] if label else [])):
        if column not in schema.names:
            raise UserError(
                f"dataset '{name}': {file} has no column '{column}'; its columns: {', '.join(schema.names)}"
            )
    for modality in modalities.values():
        stored, kind = schema.field(modality.column).type, KINDS[modality.kind]
        if pa.types.is_null(stored):  # a file in which all values are missing
            continue
        if not kind.takes(stored) and not (kind.of_files and names_files(stored)):
            raise UserError(
                f"dataset '{name}': {file} column '{modality.column}' is {stored}; expected {kind.expected}"
            )
