"""A dataset's label column, and how its labels are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainables.errors import UserError
from trainables.task_settings import TaskSettings

if TYPE_CHECKING:
    from trainables.tasks.base import Task

_T = TypeVar("_T")

#: Largest number of classes or tags.
MOST_CLASSES = 65_536

_NAMED = 3  # rows that an error message names


@dataclass
class Seen:
    """Where a value occurs.

    Attributes:
        rows: Number of rows.
        first: Number of the first of them.
    """

    rows: int
    first: int


@dataclass
class Gaps:
    """The rows of a split that have no label.

    Attributes:
        of: Number of rows of the split.
        rows: Number of those without a label.
        first: The numbers of the first few of these.
    """

    of: int = 0
    rows: int = 0
    first: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LabelColumn:
    """A dataset's label column. Labels are read only when a method needs them, a part at a time.

    Attributes:
        where: Name of the column in error messages.
        splits: Names of the splits that have labels.
        values: Function that takes a split and yields its labels, as ``plain`` returns them.
        metadata: Function that returns the value of a key in the dataset's description, or None.
        settings: What the user says about the task.
        words: Function that takes a split and numbers of rows, and returns what the user calls them.
    """

    where: str
    splits: tuple[str, ...]
    values: Callable[[str], Iterator[pa.ChunkedArray]]
    metadata: Callable[[str], Any]
    settings: TaskSettings
    words: Callable[[str, Sequence[int]], list[str]] = lambda split, rows: [f"{split} row {n}" for n in rows]
    _known: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of_splits(self, splits: tuple[str, ...]) -> LabelColumn:
        """Return the column with some of its splits; what is known about them stays known."""
        some = replace(self, splits=splits)
        some._known.update(self._known)
        return some

    @property
    def delimiter(self) -> str | None:
        """What stands between the tags of a text, as the user says or else the description; None if none do.

        Raises:
            UserError: If the description says it wrongly.
        """
        stated = self.settings.tag_delimiter or self.metadata("delimiter")
        if not isinstance(stated, str | None) or stated == "":
            raise UserError(f"{self.where}: schema key paretofuse.delimiter is {stated!r}; write a text")
        return stated

    def gaps(self, split: str) -> Gaps:
        """Return which rows of a split have no label: a null, NaN, or a text of white space only.

        Where texts list tags, an empty one is a row without tags, not one without a label.
        """
        return self.once("gaps", split, self._find_gaps)

    def require_labels(self) -> None:
        """Check that every row of the splits has a label.

        Raises:
            UserError: If rows lack one; the message counts them by split and names the first few.
        """
        lacking = {split: gaps for split in self.splits if (gaps := self.gaps(split)).rows}
        for split, gaps in lacking.items():
            if gaps.rows == gaps.of:
                out = "; leave this split out, and a part of train is taken" if split != "train" else ""
                raise UserError(f"{self.where}: no {split} row has a label{out}")
        if lacking:
            counts = ", and ".join(
                f"{gaps.rows:,} of {gaps.of:,} {split} rows "
                f"({self.rows_in_words(split, gaps.first, gaps.rows)})"
                for split, gaps in lacking.items()
            )
            raise UserError(
                f"{self.where}: no label in {counts}; fill it in, or leave such rows out by --bad-rows skip"
            )

    def rows_with_labels(self, split: str) -> np.ndarray:
        """Return the numbers of the rows of a split that have a label, ascending, shape (N,)."""
        parts = [np.empty(0, dtype=bool), *(~self._lacking(labels) for labels in self.values(split))]
        return np.flatnonzero(np.concatenate(parts))

    def counted(self, split: str) -> dict[Any, Seen]:
        """Return where each value of a split occurs, for labels that are no lists; gaps are left out.

        Raises:
            UserError: If there are more than ``MOST_CLASSES`` values.
        """
        return self.once("counted", split, self._count)

    def once(self, what: str, split: str, find: Callable[[str], _T]) -> _T:
        """Return what a function finds in a split; labels are read only the first time.

        Args:
            what: Name of what is found.
            split: Name of the split.
            find: The function, which takes the split.
        """
        if (what, split) not in self._known:
            self._known[what, split] = find(split)
        found: _T = self._known[what, split]
        return found

    def require_few(self, count: int) -> None:
        """Check a number of classes or tags.

        Raises:
            UserError: If it is above ``MOST_CLASSES``.
        """
        if count > MOST_CLASSES:
            raise UserError(
                f"{self.where} has more than {MOST_CLASSES:,} distinct values, too many for classes; is it "
                "the label?"
            )

    def rows_in_words(self, split: str, rows: list[int], count: int) -> str:
        """Return the user's words for the first few of ``count`` rows."""
        shown = self.words(split, rows[:_NAMED])
        more = [f"{count - len(shown):,} more"] if count > len(shown) else []
        return listed([*shown, *more])

    def encoded(self, task: Task, split: str) -> Tensor:
        """Return a split's labels as a task encodes them, shape (N,) or (N, K).

        Raises:
            UserError: If a label is missing or invalid for the task; the message names its row.
        """
        parts: list[Tensor] = []
        first = 0
        for stored in self.values(split):
            parts.append(task.encode(stored.to_pylist(), f"{self.where}, {split} row", first))
            first += len(stored)
        return torch.cat(parts)

    def _find_gaps(self, split: str) -> Gaps:
        found = Gaps()
        for labels in self.values(split):
            rows = np.flatnonzero(self._lacking(labels))
            found.first += (rows[: _NAMED - len(found.first)] + found.of).tolist()
            found.rows += len(rows)
            found.of += len(labels)
        return found

    def _count(self, split: str) -> dict[Any, Seen]:
        found: dict[Any, Seen] = {}
        first = 0
        for labels in self.values(split):
            there = ~self._lacking(labels)
            tally(labels.filter(pa.array(there)), found, first + np.flatnonzero(there))
            self.require_few(len(found))
            first += len(labels)
        return found

    def _lacking(self, labels: pa.ChunkedArray) -> np.ndarray:
        """Return whether each row has no label, shape (N,)."""
        lacking = pc.is_null(labels, nan_is_null=True)
        if pa.types.is_string(labels.type) and self.delimiter is None:
            blank = pc.equal(pc.utf8_trim_whitespace(labels), "")
            lacking = pc.or_(lacking, pc.fill_null(blank, False))
        return lacking.to_numpy()


def tally(labels: pa.ChunkedArray | pa.Array, found: dict[Any, Seen], rows: np.ndarray) -> None:
    """Add to ``found`` where each value of some labels occurs.

    Args:
        labels: The labels (N,), without nulls.
        found: What was found so far.
        rows: The number of each label's row, ascending, shape (N,).
    """
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.combine_chunks()
    coded = labels.dictionary_encode()
    numbers, places, counts = np.unique(coded.indices.to_numpy(), return_index=True, return_counts=True)
    values = coded.dictionary.take(pa.array(numbers)).to_pylist()
    for value, first, count in zip(values, rows[places].tolist(), counts.tolist(), strict=True):
        found.setdefault(value, Seen(0, first)).rows += count


def is_list(kind: pa.DataType) -> bool:
    """Return whether labels of this type are lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether labels of this type are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def plain(labels: pa.Array) -> pa.ChunkedArray:
    """Return labels without dictionaries, and with one type for all kinds of texts."""
    return pa.chunked_array([labels.cast(plain_type(labels.type))])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of ``plain`` labels that are stored as a type."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if is_text(kind):
        return pa.string()
    if pa.types.is_float16(kind):  # which pyarrow hardly computes in
        return pa.float32()
    if not is_list(kind):
        return kind
    value = plain_type(kind.value_type)
    if value == kind.value_type:
        return kind
    return pa.list_(value, kind.list_size) if pa.types.is_fixed_size_list(kind) else pa.large_list(value)


def meaning(kind: pa.DataType) -> str:
    """Return in words what labels of a type are. Types of one meaning mix freely; an empty text fits all.

    >>> meaning(pa.dictionary(pa.int8(), pa.large_string())), meaning(pa.list_(pa.uint8()))
    ('texts', 'lists of numbers')
    """
    kind = plain_type(kind)
    if pa.types.is_null(kind):
        return ""
    if is_list(kind):
        inner = meaning(kind.value_type)
        return f"lists of {inner}" if inner else "lists"
    if pa.types.is_string(kind):
        return "texts"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    return "booleans" if pa.types.is_boolean(kind) else str(kind)


def common_type(where: str, types: Iterable[tuple[str, pa.DataType]]) -> pa.DataType:
    """Return the one type as which the labels of several files are understood.

    Args:
        where: Name of the column in error messages.
        types: Each file's name, and the type of its labels.

    Returns:
        The type in the first file that says most; that with fractions, if a file's numbers may have some.

    Raises:
        UserError: If the labels of two files do not mean the same; the message names both files.
    """
    known = [(file, plain_type(kind)) for file, kind in types if meaning(kind)]
    telling = [(file, kind) for file, kind in known if meaning(kind) != "lists"] or known
    if not telling:
        return pa.null()
    first, wanted = telling[0]
    said = meaning(wanted)
    for file, kind in known:
        words = meaning(kind)
        if words != said and not (words == "lists" and said.startswith(words)):
            raise UserError(
                f"{where} has {said} ({wanted}) in {first}, but {words} ({kind}) in {file}; write all labels "
                "in one way"
            )
    return next((kind for _, kind in telling if _is_fractional(kind)), wanted)


def _is_fractional(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind.value_type if is_list(kind) else kind)


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
