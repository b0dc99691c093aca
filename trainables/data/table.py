"""Rows to which a trained model is applied: a dataset whose labels and splits are not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from trainables.data.columns import (
    LABEL,
    Modality,
    check_schema,
    column_named,
    columns_said,
    from_json,
    modalities_of,
)
from trainables.data.included import DATASETS, open_dataset
from trainables.data.kinds import KINDS, Content
from trainables.data.plain import plain_parts
from trainables.data.readers import Found, Part, is_there, read_path
from trainables.data.rows import Rows
from trainables.data.source import Dataset, rows_of, stored_labels
from trainables.data.written import written_labels
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: Names of columns that tell rows apart, in lower case.
_IDS = ("id", "uid", "key", "row_id", "sample_id")


@dataclass(frozen=True)
class Table:
    """Rows with the columns of some modalities. They are read on demand.

    Attributes:
        name: The name that the user wrote.
        rows: The rows of each split; of one split if the data have none.
        modalities: Column and kind of each modality that is there.
        label: The column of labels; None if there is none.
        ident: The column that tells rows apart; None if there is none.
        notes: What the user should know, a sentence each.
    """

    name: str
    rows: Rows
    modalities: Mapping[str, Modality]
    label: str | None = None
    ident: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> Table:
        """Return the rows of a dataset that is open."""
        columns = [part.schema for parts in dataset.parts.values() for part in parts]
        ident = _ident(columns, {*(each.column for each in dataset.modalities.values()), dataset.label})
        return cls(dataset.name, dataset.rows, dataset.modalities, dataset.label, ident)

    def of_split(self, split: str) -> tuple[str, ...]:
        """Return the splits that a user names; ``all`` stands for all of them.

        Raises:
            UserError: If there is no such split.
        """
        there = self.rows.splits
        if split == "all":
            return there
        if split not in there:
            known = ", ".join(["all", *(name for name in there if name != "all")])
            raise UserError(f"--split {split}: dataset '{self.name}' has no such split; accepted: {known}")
        return (split,)

    def count(self, splits: Sequence[str]) -> int:
        """Return the number of rows of some splits."""
        return sum(self.rows.count(split) for split in splits)

    def batches(self, split: str, rows: int) -> Iterator[tuple[list[dict[str, Content]], list[Any]]]:
        """Yield the rows of a split in order, as contents by modality, with what tells them apart.

        Args:
            split: Name of the split.
            rows: Most rows of a batch.

        Raises:
            UserError: If a file is damaged.
        """
        columns = [modality.column for modality in self.modalities.values()]
        wanted = list(dict.fromkeys([*columns, *([self.ident] if self.ident else [])]))
        for batch in self.rows.batches(split, wanted, rows):
            contents = {
                name: KINDS[modality.kind].contents(batch[modality.column])
                for name, modality in self.modalities.items()
            }
            idents = batch[self.ident].to_pylist() if self.ident else [None] * batch.num_rows
            of_rows = zip(*contents.values(), strict=True)
            yield [dict(zip(contents, values, strict=True)) for values in of_rows], idents

    def labels(self, split: str) -> list[Any]:
        """Return the stored labels of a split, in order; None for a row that has none."""
        assert self.label is not None
        parts = stored_labels(self.rows, split, self.label)
        return [label for part in parts for label in part.to_pylist()]


def open_table(
    name: str,
    wanted: Mapping[str, Modality],
    reading: ReadingSettings | None = None,
    *,
    label: str | None = None,
    ident: str | None = None,
) -> Table:
    """Open data whose rows a model is applied to. Neither labels nor splits have to be there.

    The column of a modality is the one that ``--columns`` names; or else the one that it had in the data from
    which the model has learnt; or the one that the data's own description names, or that has the modality's
    name. With ``--columns``, what is not found is missing in all rows.

    Args:
        name: As in ``open_dataset``.
        wanted: The column that each modality had, and its kind.
        reading: What the user says about reading; None is nothing.
        label: The column that the labels had, if labels are wanted.
        ident: The column that tells rows apart; None takes one with a usual name.

    Raises:
        UserError: If there are no such data, if a column is not found or has the wrong type, or if labels are
            wanted and not there.
    """
    reading = reading or ReadingSettings()
    if name in DATASETS:
        return _included(open_dataset(name), wanted)
    if not is_there(name, reading):
        known = ", ".join(DATASETS)
        raise UserError(f"data '{name}': no such file or folder, and none of the included datasets ({known})")
    found = read_path(name, reading)
    found = replace(found, parts={split: plain_parts(name, each) for split, each in found.parts.items()})
    parts = [part for each in found.parts.values() for part in each]
    said = columns_said(reading.columns)
    modalities = _modalities(name, parts[0], found, wanted, said)
    labels = None if label is None else _label(name, parts[0], found, said, label)
    if labels is not None and found.untyped:
        typed, _ = written_labels(found.parts, labels)
        found = replace(found, parts=typed)
        parts = [part for each in found.parts.values() for part in each]
    for part in parts:
        check_schema(name, part.name, part.schema, dict(modalities), labels)
    rows, notes = rows_of(name, found, modalities, labels)
    taken = {*(each.column for each in modalities.values()), *([labels] if labels else [])}
    if ident is None:
        ident = _ident([part.schema for part in parts], taken)
    else:
        for part in parts:
            ident = column_named(name, part.schema, ident)
    if absent := [modality for modality in wanted if modality not in modalities]:
        notes = [*notes, f"missing in all rows: {', '.join(absent)}"]
    return Table(name, rows, modalities, labels, ident, tuple(notes))


def _included(dataset: Dataset, wanted: Mapping[str, Modality]) -> Table:
    dataset.require(wanted)
    table = Table.of(dataset)
    return replace(table, modalities={name: dataset.modalities[name] for name in wanted})


def _modalities(
    name: str, part: Part, found: Found, wanted: Mapping[str, Modality], said: Mapping[str, str]
) -> dict[str, Modality]:
    """Return the column of each modality that is there, see ``open_table``."""
    key = "paretofuse.modalities"
    stated = modalities_of(name, part.schema, from_json(name, said, key) or {})
    described = modalities_of(name, part.schema, from_json(name, found.metadata, key) or {})
    if unknown := [modality for modality in stated if modality not in wanted]:
        raise UserError(f"--columns {unknown[0]}=…: the model reads {', '.join(wanted)}")
    modalities = {}
    for modality, known in wanted.items():
        if modality in stated:
            column: str | None = stated[modality].column
        else:
            likely = [
                known.column,
                *([described[modality].column] if modality in described else []),
                modality,
            ]
            column = next((each for each in likely if each in part.schema.names), None)
        if column is not None:
            modalities[modality] = Modality(column, known.kind)
        elif not stated:
            raise UserError(
                f"data '{name}': no column is known as {modality}; the columns: "
                f"{', '.join(part.schema.names)}; say which it is: --columns {modality}=COLUMN"
            )
    return modalities


def _label(name: str, part: Part, found: Found, said: Mapping[str, str], known: str) -> str:
    """Return the column of labels."""
    key = "paretofuse.label"
    if stated := said.get(key):
        return column_named(name, part.schema, stated)
    likely = (known, found.metadata.get(key), LABEL)
    column = next((each for each in likely if each in part.schema.names), None)
    if column is None:
        raise UserError(
            f"data '{name}': no column has the labels; the columns: {', '.join(part.schema.names)}; say "
            "which it is: --columns label=COLUMN"
        )
    return column


def _ident(schemas: Sequence[pa.Schema], taken: set[str]) -> str | None:
    """Return the column that tells rows apart, if all parts have it."""
    for column in schemas[0].names if schemas else ():
        plain = column.strip().casefold() in _IDS and column not in taken
        if plain and all(schema.names.count(column) == 1 for schema in schemas):
            return column
    return None
