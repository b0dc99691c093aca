"""Rows without labels: test splits that have no label column, and rows that lack theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from trainables.data.readers import Found
from trainables.data.readers.parts import WrappedPart
from trainables.data.rows import Rows, SomeRows
from trainables.tasks import LabelColumn


@dataclass(frozen=True)
class UnlabeledPart(WrappedPart):
    """A part without a label column, with one in which all labels are missing.

    Attributes:
        part: The part.
        label: Name of the label column.
    """

    label: str

    @property
    def schema(self) -> pa.Schema:
        """The columns, with the labels."""
        return self.part.schema.append(pa.field(self.label, pa.null()))

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows."""
        own = [column for column in columns if column != self.label] or self.part.schema.names[:1]
        for batch in self.part.batches(own, rows):
            none = pa.nulls(batch.num_rows)
            yield pa.record_batch({c: none if c == self.label else batch[c] for c in columns})


def with_test_labels(found: Found, label: str) -> Found:
    """Return what a reader has found, with missing labels in a test split that has no label column.

    The column must be in other splits, and in no part of the test split.
    """
    tests = found.parts.get("test", ())
    others = [part for split, parts in found.parts.items() if split != "test" for part in parts]
    lacks = not any(label in part.schema.names for part in tests)
    if not tests or not lacks or not all(label in part.schema.names for part in others):
        return found
    return replace(found, parts={**found.parts, "test": [UnlabeledPart(part, label) for part in tests]})


def with_labels_only(rows: Rows, column: LabelColumn) -> tuple[Rows, int]:
    """Return the rows that have labels, and how many have none; splits without any label stay as they are.

    Args:
        rows: The rows.
        column: Their labels.
    """
    kept = {}
    for split in rows.splits:
        there = column.rows_with_labels(split)
        kept[split] = there if len(there) else np.arange(rows.count(split))
    left_out = sum(rows.count(split) - len(there) for split, there in kept.items())
    return (SomeRows(rows, kept), left_out) if left_out else (rows, 0)
