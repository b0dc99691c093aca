"""Which task a dataset has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from trainables.tasks.labels import LabelColumn, is_list
from trainables.tasks.registry import DEFAULT_TASK


def choose_task(column: LabelColumn, kind: pa.DataType, described: str | None) -> tuple[str, str]:
    """Return the name of a dataset's task, and in words who says so.

    The user decides, else the dataset's description, else the labels of the training rows: lists of strings,
    of whole numbers or of 1 and 0 are tags, and so are texts with a delimiter; other strings, integers,
    booleans and floats that are all whole numbers are classes; other floats are numbers to predict.

    Args:
        column: The label column.
        kind: The Arrow type of the labels, see ``common_type``.
        described: The task in the dataset's description; None if it says nothing.
    """
    if column.settings.task is not None:
        return column.settings.task, "as --task says"
    if described is not None:
        return described, "as the dataset says"
    floating = pa.types.is_floating(kind.value_type if is_list(kind) else kind)
    fractions = floating and _any_fraction(column)
    return _by_labels(column, kind, fractions), f"by its labels, {_in_words(kind, floating, fractions)}"


def _by_labels(column: LabelColumn, kind: pa.DataType, fractions: bool) -> str:
    if is_list(kind):
        return "regression" if fractions else "multilabel"
    if column.delimiter is not None:
        return "multilabel"
    return "regression" if fractions else DEFAULT_TASK


def _in_words(kind: pa.DataType, floating: bool, fractions: bool) -> str:
    stored = f"lists of {kind.value_type}" if is_list(kind) else str(kind)
    return stored if not floating or fractions else f"{stored}, all whole numbers"


def _any_fraction(column: LabelColumn) -> bool:
    """Return whether a number of a label is no whole one; in a list, whether it is neither 1 nor 0."""
    for labels in column.values("train"):
        listed = is_list(labels.type)
        numbers = (pc.list_flatten(labels) if listed else labels).cast(pa.float64())
        numbers = numbers.filter(pc.is_finite(numbers))
        odd = (
            pc.invert(pc.is_in(numbers, pa.array([0.0, 1.0])))
            if listed
            else pc.not_equal(numbers, pc.floor(numbers))
        )
        if pc.any(odd).as_py():
            return True
    return False
