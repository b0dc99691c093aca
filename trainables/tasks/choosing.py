"""Which task a dataset has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from trainables.tasks.base import LabelColumn, is_list
from trainables.tasks.registry import DEFAULT_TASK


def choose_task(column: LabelColumn, kind: pa.DataType, described: str | None) -> tuple[str, str]:
    """Return the name of a dataset's task, and in words who says so.

    The user decides, else the dataset's description, else the labels: lists of strings or of 1 and 0 are
    tags, and so are texts with a delimiter; other strings, integers, booleans and floats that are all whole
    numbers are classes; other floats are numbers to predict.

    Args:
        column: The label column.
        kind: The Arrow type of the labels, without their dictionary.
        described: The task in the dataset's description; None if it says nothing.
    """
    if column.settings.task is not None:
        return column.settings.task, "as --task says"
    if described is not None:
        return described, "as the dataset says"
    stored = f"lists of {kind.value_type}" if is_list(kind) else str(kind)
    return _by_labels(column, kind), f"by its labels, {stored}"


def _by_labels(column: LabelColumn, kind: pa.DataType) -> str:
    if is_list(kind):
        return "regression" if pa.types.is_floating(kind.value_type) else "multilabel"
    if column.metadata("delimiter") is not None:
        return "multilabel"
    return "regression" if pa.types.is_floating(kind) and _fractions(column) else DEFAULT_TASK


def _fractions(column: LabelColumn) -> bool:
    """Return whether a label is no whole number."""
    return any(
        pc.any(pc.not_equal(labels, pc.floor(labels))).as_py()
        for split in column.splits
        for labels in (part.cast(pa.float64()) for part in column.values(split))
    )
