"""Classes as the Hugging Face library ``datasets`` stores them: numbers, whose names are beside the data.

It writes a JSON object into the schema of Arrow and Parquet files, the *features*. They describe each column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainables.data.readers.base import Part
from trainables.data.readers.parts import WrappedPart
from trainables.errors import UserError

#: The number that stands for no class.
_NONE = -1


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """Return the features of the columns that a schema describes; none if it has none that can be read."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):  # of no form that is known
        return {}
    return features if isinstance(features, dict) else {}


def class_names(feature: Any) -> list[str] | None:
    """Return the names of the classes of a column, or of the items of its lists; None if it has no classes.

    Example:
        >>> class_names({"_type": "List", "feature": {"_type": "ClassLabel", "names": ["cat", "dog"]}})
        ['cat', 'dog']
    """
    match feature:
        case {"_type": "ClassLabel", "names": [*names]}:
            return [str(name) for name in names]
        case {"feature": inner} | [inner]:
            return class_names(inner)
    return None


def with_names(dataset: str, part: Part, classes: Mapping[str, list[str]] | None = None) -> Part:
    """Return a part in which classes are names.

    A list of numbers alone would not tell whether they are classes, or a 1 or 0 for each class.

    Args:
        dataset: The dataset's name in error messages.
        part: The part.
        classes: The names of the classes by column; None takes those in the part's schema.
    """
    if classes is None:
        classes = {
            column: names for column, f in features_of(part.schema).items() if (names := class_names(f))
        }
    numbered = {
        field.name: classes[field.name]
        for field in part.schema
        if field.name in classes and pa.types.is_integer(_item_type(field.type))
    }
    return NamedPart(part, dataset, numbered) if numbered else part


@dataclass(frozen=True)
class NamedPart(WrappedPart):
    """A part with columns of classes, or of lists of classes, whose numbers are turned into names.

    Attributes:
        dataset: The dataset's name in error messages.
        part: The part with numbers; -1 is a missing value.
        classes: The names of the classes by column, in the order of the numbers from 0.
    """

    dataset: str
    classes: Mapping[str, list[str]]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        schema = self.part.schema
        for column in self.classes:
            place = schema.get_field_index(column)
            is_list = schema.field(place).type != _item_type(schema.field(place).type)
            schema = schema.set(place, pa.field(column, pa.list_(pa.string()) if is_list else pa.string()))
        return schema

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the content, and the names."""
        return self.part.fingerprint + json.dumps(self.classes).encode()

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the part is damaged, or a number stands for no class.
        """
        done = 0
        for batch in self.part.batches(columns, rows):
            for column in self.classes.keys() & set(columns):
                place = batch.schema.get_field_index(column)
                batch = batch.set_column(place, column, self._named(column, batch[column], done))
            done += batch.num_rows
            yield batch

    def _named(self, column: str, values: pa.Array, first: int) -> pa.Array:
        """Return the names for the numbers of some rows, the first of which is row ``first``."""
        if pa.types.is_integer(values.type):
            return self._names(column, values, np.arange(first, first + len(values)), _NONE)
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(first, first + len(values)), lengths)
        names = self._names(column, values.flatten(), rows, 0)
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(ends, names, mask=values.is_null())

    def _names(self, column: str, numbers: pa.Array, rows: np.ndarray, least: int) -> pa.Array:
        """Return the names for numbers (N,), which come from the rows (N,)."""
        names = self.classes[column]
        wrong = pc.or_(pc.less(numbers, least), pc.greater_equal(numbers, len(names)))
        if len(places := pc.indices_nonzero(wrong)):
            place = places[0].as_py()
            raise UserError(
                f"dataset '{self.dataset}': {self.name} row {rows[place]}: column '{column}' is "
                f"{numbers[place]}, and its {len(names)} classes are numbered from 0"
            )
        return pa.array(names, pa.string()).take(pc.if_else(pc.equal(numbers, _NONE), None, numbers))


def _item_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the items of lists, or the type itself."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return kind.value_type if is_list else kind
