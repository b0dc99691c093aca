"""Arrow types that mean the same are made one: several programs may have written a dataset's files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from trainables.data.readers import Part
from trainables.data.readers.parts import WrappedPart
from trainables.errors import UserError


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type without its encoding: dictionaries, views and decimals become what their values are.

    Example:
        >>> str(plain_type(pa.dictionary(pa.int8(), pa.string())))
        'string'
    """
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return pa.float64() if pa.types.is_decimal(kind) else pa.float32()
    if _is_list(kind):
        value = plain_type(kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(value, kind.list_size)
        large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
        return pa.large_list(value) if large else pa.list_(value)
    return kind


def shared_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the type that values of several plain types can have; None if there is none."""
    known = list(dict.fromkeys(kind for kind in types if not pa.types.is_null(kind)))
    if len(known) < 2:
        return known[0] if known else pa.null()
    if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in known):
        return pa.large_string()
    if all(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in known):
        return pa.large_binary()
    if all(pa.types.is_integer(kind) for kind in known):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known):
        return pa.float64()
    if all(map(_is_list, known)):
        value = shared_type(kind.value_type for kind in known)
        return None if value is None else pa.large_list(value)
    return None


def different_types(
    name: str, parts: Sequence[Part], columns: Iterable[str], mixed: Collection[str]
) -> dict[str, pa.DataType]:
    """Return the common type of each column that parts have as different ones.

    Args:
        name: The dataset's name in error messages.
        parts: The parts; their types are plain.
        columns: The columns.
        mixed: Those whose parts may be of types that have none in common, such as paths and bytes.

    Raises:
        UserError: If the types of a column have none in common; the message names two files.
    """
    found = {}
    for column in columns:
        types = {part.schema.field(column).type: part.name for part in reversed(parts)}
        wanted = shared_type(types)
        if wanted is None and column not in mixed:
            (first, file), (other, second) = list(types.items())[::-1][:2]
            raise UserError(
                f"dataset '{name}': column '{column}' is {first} in {file} and {other} in {second}; write it "
                "as one type"
            )
        if wanted is not None and len(types) > 1:
            found[column] = wanted
    return found


@dataclass(frozen=True)
class PlainPart(WrappedPart):
    """A part whose columns have plain types.

    Attributes:
        dataset: The dataset's name in error messages.
        part: The part.
    """

    dataset: str

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return pa.schema([pa.field(field.name, plain_type(field.type)) for field in self.part.schema])

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If the part is damaged.
        """
        for batch in self.part.batches(columns, rows):
            where = f"dataset '{self.dataset}': {self.name}"
            yield cast(where, batch, {c: self.schema.field(c).type for c in columns})


def plain_parts(name: str, parts: Sequence[Part]) -> list[Part]:
    """Return parts whose columns have plain types."""
    return [
        part if all(plain_type(field.type) == field.type for field in part.schema) else PlainPart(part, name)
        for part in parts
    ]


def cast(where: str, batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return a batch whose columns have these types.

    Args:
        where: Name of the file in error messages.
        batch: The batch.
        types: The wanted types by column; other columns stay as they are.

    Raises:
        UserError: If a value cannot have the type.
    """
    columns = {}
    for name in batch.schema.names:
        values = batch[name]
        wanted = types.get(name, values.type)
        try:
            columns[name] = values if values.type == wanted else _cast(values, wanted)
        except (pa.ArrowException, NotImplementedError) as error:
            raise UserError(f"{where} column '{name}' has values that cannot be {wanted}") from error
    return pa.record_batch(columns)


def _cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_list_view(values.type) or pa.types.is_large_list_view(values.type):
        return pa.array(values.to_pylist(), wanted)  # cast loses the items
    return values.cast(wanted)


def _is_list(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )
