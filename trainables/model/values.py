"""Turns the values that a user gives into the inputs of encoders, as preparing a dataset does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from trainables.data.cells import digest
from trainables.data.kinds import KINDS, Content, Unreadable
from trainables.errors import UserError
from trainables.model.description import Input
from trainables.towers import EncoderSource

#: What a user gives for one sample: values by modality.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Distinct:
    """The distinct inputs of one modality of a batch.

    Attributes:
        inputs: An encoder's inputs for them, each of shape (C, …).
        numbers: The number of each row's input, shape (B,).
        present: Whether each row has a value, shape (B,); the input of the others is the blank.
    """

    inputs: dict[str, Tensor]
    numbers: Tensor
    present: Tensor

    def of_rows(self) -> dict[str, Tensor]:
        """Return the inputs of the rows, each of shape (B, …)."""
        return {name: tensor[self.numbers] for name, tensor in self.inputs.items()}


class Values:
    """Turns the values of one modality into an encoder's inputs.

    Args:
        modality: The modality.
        described: What is known of it.
        source: Its encoder.
        pool: Threads that decode.
    """

    def __init__(self, modality: str, described: Input, source: EncoderSource, pool: Executor) -> None:
        self.kind = KINDS[described.kind]
        self._modality = modality
        self._facts = described.facts
        self._convert = self.kind.convert(source, described.facts, pool)

    def distinct(self, rows: Sequence[Row], first: int = 0) -> Distinct:
        """Return the distinct inputs of some rows.

        Args:
            rows: The rows.
            first: Number of the first one, for messages.

        Raises:
            UserError: If a value cannot be read. The message names its row.
        """
        numbers: dict[bytes, int] = {}
        contents: list[Content] = []
        first_rows: list[int] = []
        of_rows, present = [], []
        for row, values in enumerate(rows, first):
            content = self.kind.content(
                None if is_missing(values, self._modality) else values[self._modality]
            )
            if isinstance(content, Unreadable):
                raise self._refused(row, content)
            number = numbers.setdefault(digest(content), len(numbers))
            if number == len(contents):
                contents.append(content)
                first_rows.append(row)
            of_rows.append(number)
            present.append(content is not None)
        converted = self._convert(contents)
        for place, why in converted.bad.items():
            raise self._refused(first_rows[place], why)
        views = self.kind.views(pa.record_batch(converted.columns), self._facts)
        # PyTorch warns of arrays that cannot be written
        inputs = self.kind.inputs({name: array.copy() for name, array in views.items()}, self._facts)
        return Distinct(inputs, torch.tensor(of_rows), torch.tensor(present))

    def _refused(self, row: int, why: Unreadable) -> UserError:
        detail = f" ({why.detail})" if why.detail else ""
        return UserError(f"row {row}: its {self._modality} cannot be read: {why.reason}{detail}")


def is_missing(row: Row, modality: str) -> bool:
    """Return whether a row lacks a modality: it is absent, None, or NaN, as tables have it."""
    value = row.get(modality)
    return value is None or (isinstance(value, float) and math.isnan(value))


def check_rows(rows: Sequence[Row], modalities: Sequence[str], first: int = 0) -> None:
    """Check that rows name modalities, each at least one, and nothing else.

    Args:
        rows: The rows.
        modalities: The names that are accepted.
        first: Number of the first row, for messages.

    Raises:
        UserError: If not. The message names the row.
    """
    accepted = ", ".join(modalities)
    for number, row in enumerate(rows, first):
        if not isinstance(row, Mapping):
            raise UserError(
                f"row {number}: is of the type {type(row).__name__}; accepted: values by modality, {accepted}"
            )
        for name in row:
            if name not in modalities:
                raise UserError(f"row {number}: unknown modality '{name}'; accepted: {accepted}")
        if all(is_missing(row, modality) for modality in modalities):
            raise UserError(f"row {number}: has no value; accepted: at least one of {accepted}")
