"""Labels of text files: which type they are, by how all of them are written."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trainables.data.readers import Part
from trainables.data.readers.parts import WrappedPart

_READ = 65_536  # labels read at a time

#: Whole numbers as programs write them. What has zeros in front is a name.
_WHOLE = re.compile(r"0|-?[1-9]\d*")
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|(?=\.\d))(\.\d*)?([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(0|[1-9]\d*)(,\d+)?")
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
_LIMIT = 2**63
_SHOWN = 60  # characters of a label that a note shows
_MANY = 0.2  # share of the labels that have a delimiter if they are tags


@dataclass(frozen=True)
class Written:
    """How labels are written.

    Attributes:
        type: The type that they have.
        value: Returns the value of a label that is not empty.
        note: What the user should know; None if nothing.
    """

    type: pa.DataType
    value: Callable[[str], Any]
    note: str | None = None


def how_written(labels: Iterable[str]) -> Written:
    """Return the type of labels: whole numbers, numbers, lists, or else texts, if all are written so.

    Args:
        labels: The distinct labels; an empty one is missing.

    Example:
        >>> [str(how_written(labels).type) for labels in (["1", "2"], ["1", "0.5"], ["007", "1"])]
        ['int64', 'double', 'string']
    """
    known = [label for label in labels if label.strip()]
    if not known:
        return Written(pa.string(), str)
    if all(map(_WHOLE.fullmatch, known)) and all(-_LIMIT <= int(label) < _LIMIT for label in known):
        return Written(pa.int64(), int)
    if all(map(_NUMBER.fullmatch, known)) and all(abs(float(label)) < float("inf") for label in known):
        return Written(pa.float64(), float)
    if all(map(_COMMA.fullmatch, known)):
        note = "labels are numbers with decimal commas"
        return Written(pa.float64(), lambda label: float(label.replace(",", ".")), note)
    if all(map(_LIST.fullmatch, known)):
        try:
            kind = pa.array([_parsed(label) for label in known]).type
        except (ValueError, SyntaxError, pa.ArrowException, RecursionError, MemoryError):
            note = f"labels such as '{known[0][:_SHOWN]}' are no lists that can be read; each is one class"
            return Written(pa.string(), str, note)
        return Written(kind, _parsed, f"labels are lists, such as {known[0][:_SHOWN]}")
    return Written(pa.string(), str, _like_tags(known) or _mixed(known))


def _mixed(labels: Sequence[str]) -> str | None:
    """Return what the user should know of labels some of which are numbers; None if none is."""
    numbers = [label for label in labels if _NUMBER.fullmatch(label.strip())]
    names = [label for label in labels if not label.strip().lstrip("+-").isdigit() and label not in numbers]
    if not numbers or not names:  # with 007 among them, they are names
        return None
    return (
        f"labels are numbers such as '{numbers[0]}' and names such as '{names[0][:_SHOWN]}'; all of them are "
        "taken as names"
    )


def _recur(labels: Sequence[str]) -> bool:
    """Return whether most of what commas separate is in several labels, as tags are and places are not."""
    counts = Counter(part.strip() for label in labels for part in label.split(","))
    return 2 * sum(count > 1 for count in counts.values()) > len(counts)


def _like_tags(labels: Sequence[str]) -> str | None:
    """Return a hint if labels look like several tags each; None if they do not."""
    for delimiter in "|;,":
        several = [label for label in labels if delimiter in label]
        if len(several) > _MANY * len(labels) and (delimiter != "," or _recur(labels)):
            shown = several[0][:_SHOWN]
            return (
                f"labels such as '{shown}' are one class each; --tag-delimiter '{delimiter}' makes them tags"
            )
    return None


@dataclass(frozen=True)
class WrittenPart(WrappedPart):
    """A part of texts, with labels of the type as which they are written.

    Attributes:
        part: The part.
        label: Name of the label column.
        written: How labels are written.
    """

    label: str
    written: Written

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        schema = self.part.schema
        return schema.set(schema.get_field_index(self.label), pa.field(self.label, self.written.type))

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows. An empty label is missing."""
        for batch in self.part.batches(columns, rows):
            if self.label in columns:
                texts = batch[self.label].to_pylist()
                values = [self.written.value(text) if text and text.strip() else None for text in texts]
                place = batch.schema.get_field_index(self.label)
                batch = batch.set_column(place, self.label, pa.array(values, self.written.type))
            yield batch


def written_labels(
    parts: Mapping[str, Sequence[Part]], label: str
) -> tuple[dict[str, list[Part]], str | None]:
    """Return parts of texts with labels of the type as which all are written, and what the user should know.

    Args:
        parts: The parts of each split.
        label: Name of the label column, which a part may lack.
    """
    having = [part for own in parts.values() for part in own if _has_texts(part, label)]
    batches = (batch for part in having for batch in part.batches([label], _READ))
    texts = {text for batch in batches for text in batch[label].unique().to_pylist()}
    written = how_written(sorted(texts - {None}))
    typed = {
        split: [WrittenPart(part, label, written) if _has_texts(part, label) else part for part in own]
        for split, own in parts.items()
    }
    return typed, written.note


def _has_texts(part: Part, label: str) -> bool:
    """Return whether a part has the column of labels, and they are texts."""
    if label not in part.schema.names:
        return False
    kind = part.schema.field(label).type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _parsed(label: str) -> Any:
    """Return the list that a label is, written as JSON or as Python writes it."""
    try:
        return json.loads(label)
    except ValueError:
        return ast.literal_eval(label.strip())
