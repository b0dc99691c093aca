"""Runs a model over the rows of a table, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables.data.columns import Modality
from trainables.data.kinds import Content, Unreadable
from trainables.data.table import Table
from trainables.errors import UserError
from trainables.model import Model, ModelDescription

#: Rows that are read at a time, if the model does not take more at once.
_READ = 256
#: Rows that a message names.
_NAMED = 3
#: Why a row has no answer that has no value of any modality.
_EMPTY = "no value of any modality"

#: The values of one row by modality.
Row = dict[str, Content]


@dataclass(frozen=True)
class Batch:
    """Some rows of a split, with what a model has put out for them.

    Attributes:
        first: Number of the first row.
        idents: What tells the N rows apart.
        kept: Which of them have outputs, numbered from the first one.
        values: Their values.
        outputs: Their outputs (M, D).
        present: For each modality, which of these have a value, shape (M,).
    """

    first: int
    idents: list[Any]
    kept: list[int]
    values: list[Row]
    outputs: Tensor
    present: dict[str, Tensor]


@dataclass
class Reader:
    """Runs a model over a table. What is in memory does not grow with the number of rows.

    Attributes:
        model: The model.
        table: The rows.
        bad_rows: What becomes of rows that cannot be read. ``error`` refuses them. ``skip`` gives them no
            outputs. ``missing`` takes what cannot be read as missing.
        unread: Number of rows that could not be read, by modality and reason.
    """

    model: Model
    table: Table
    bad_rows: str = "error"
    unread: Counter[str] = field(default_factory=Counter)

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the rows of a split in order.

        Raises:
            UserError: If a row cannot be read, or has no value at all, and ``bad_rows`` is ``error``.
        """
        first = 0
        for rows, idents in self.table.batches(split, max(_READ, self.model.batch_size)):
            bad = {n: found for n, row in enumerate(rows) if (found := _unreadable(row))}
            kept = self._kept(split, first, rows, bad)
            try:
                outputs = self._outputs(kept.values())
            except UserError:
                worse = {n: found for n, row in kept.items() if (found := self._undecodable(row))}
                if not worse:
                    raise
                kept = self._kept(split, first, rows, {**bad, **worse})
                bad |= worse
                outputs = self._outputs(kept.values())
            self._count(rows, kept, bad)
            yield Batch(first, idents, [*kept], [*kept.values()], outputs, self._present(kept.values()))
            first += len(rows)

    def unread_in_words(self) -> str:
        """Return what could not be read, by reason; empty if all was read."""
        return "; ".join(f"{rows:,} row{'s' * (rows > 1)}: {what}" for what, rows in self.unread.items())

    def _outputs(self, rows: Iterable[Row]) -> Tensor:
        found = [outputs for _, outputs in self.model.batches(rows)]
        return torch.cat(found) if found else torch.empty(0, self.model.task.output_size)

    def _present(self, rows: Iterable[Row]) -> dict[str, Tensor]:
        listed = list(rows)
        return {
            name: torch.tensor([row.get(name) is not None for row in listed], dtype=torch.bool)
            for name in self.model.description.inputs
        }

    def _undecodable(self, row: Row) -> dict[str, str]:
        """Return why values of a row cannot be read, by modality; it is asked for after an error only."""
        found = {}
        for name in self.model.modalities:
            if row.get(name) is not None:
                try:
                    self.model.inputs([{name: row[name]}])
                except UserError as error:
                    found[name] = str(error).rpartition("cannot be read: ")[2]
        return found

    def _kept(
        self, split: str, first: int, rows: Sequence[Row], bad: Mapping[int, Mapping[str, str]]
    ) -> dict[int, Row]:
        """Return the rows that the model gets, by their numbers in the batch."""
        kept, refused = {}, {n: next(iter(found.items())) for n, found in bad.items()}
        for number, row in enumerate(rows):
            if number in bad and self.bad_rows == "skip":
                continue
            values = {name: None if name in bad.get(number, {}) else value for name, value in row.items()}
            if any(value is not None for value in values.values()):
                kept[number] = values
            elif number not in bad:
                refused[number] = ("row", _EMPTY)
        if refused and self.bad_rows == "error":
            raise self._refused(split, first, refused)
        return kept

    def _refused(self, split: str, first: int, refused: Mapping[int, tuple[str, str]]) -> UserError:
        named = sorted(refused)[:_NAMED]
        words = self.table.rows.words(split, [first + number for number in named])
        listed = [
            f"{word} ({name}: {reason})" if reason != _EMPTY else f"{word} ({reason})"
            for word, (name, reason) in zip(words, (refused[n] for n in named), strict=True)
        ]
        more = [f"{len(refused) - _NAMED:,} more nearby"] if len(refused) > _NAMED else []
        return UserError(
            f"data '{self.table.name}': cannot be read: {'; '.join([*listed, *more])}. --bad-rows missing "
            "takes what cannot be read as missing, and --bad-rows skip gives such rows no answer"
        )

    def _count(
        self, rows: Sequence[Row], kept: Mapping[int, Row], bad: Mapping[int, Mapping[str, str]]
    ) -> None:
        for number in range(len(rows)):
            for name, reason in bad.get(number, {}).items():
                self.unread[f"{name}: {reason}"] += 1
            if number not in kept and number not in bad:
                self.unread[_EMPTY] += 1


def _unreadable(row: Row) -> dict[str, str]:
    """Return why values of a row cannot be read, by modality, as far as that is known before decoding."""
    return {name: value.reason for name, value in row.items() if isinstance(value, Unreadable)}


def wanted_of(description: ModelDescription) -> dict[str, Modality]:
    """Return the column and kind that each of a model's modalities had where it has learnt."""
    return {name: Modality(each.column, each.kind) for name, each in description.inputs.items()}
