"""The tags that a label column has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainables.errors import UserError
from trainables.tasks.labels import LabelColumn, Seen, is_list, tally
from trainables.tasks.names import by_name


@dataclass
class Tags:
    """What the labels of a split have.

    Attributes:
        is_text: Whether labels are texts, which list tags with a delimiter.
        seen: Where each tag occurs.
        lengths: The lengths of lists, each with the first row that has it.
        repeated: Number of rows that have a tag more than once.
    """

    is_text: bool = False
    seen: dict[Any, Seen] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    repeated: int = 0

    @cached_property
    def named(self) -> dict[str, Seen]:
        """Where each tag occurs by its name, in the order of tags."""
        return by_name(self.seen)

    def indicated(self, column: LabelColumn, stated: int | None) -> int | None:
        """Return the number of tags, if labels say 1 or 0 for each of them; None if they list tags.

        Lists of whole numbers say 1 or 0 if there is no other number, and if all have one length: that of the
        tags that the dataset states. Lists of more than two cannot be tags, which would be there twice.

        Args:
            column: The label column.
            stated: The number of tags that the dataset states; None if it does not.

        Raises:
            UserError: If lists of 1 and 0 do not have one length, or could be both.
        """
        flags = all(isinstance(tag, bool) for tag in self.seen)
        if not self.seen or any(isinstance(tag, str) for tag in self.seen):
            return None
        lengths = sorted(length for length in self.lengths if length)
        if {*self.seen} <= {0, 1}:
            same = len(lengths) == 1 and (lengths[0] > 1 or 0 not in self.lengths)
            if same and stated in (None, lengths[0]):
                return lengths[0]
            if flags or lengths[-1] > 2:
                shown = [f"{n} ({column.words('train', [self.lengths[n]])[0]})" for n in lengths[:3]]
                tags = "" if stated is None else f", {stated}, as there are names in paretofuse.classes"
                raise UserError(
                    f"{column.where}: lists of 1 and 0 must have one length{tags}; there are lists of "
                    f"{', '.join(shown)}"
                )
        elif len(lengths) == 1 and self.repeated and stated in (None, lengths[0]):
            raise UserError(
                f"{column.where}: lists of {lengths[0]} numbers, {self.repeated:,} of which have one twice, "
                "are neither tags nor 1 or 0 for each tag"
            )
        return None


def tags_of(column: LabelColumn, split: str) -> Tags:
    """Return what the labels of a split have; rows without a label are left out.

    Raises:
        UserError: If there are too many tags, or a tag is missing in a list.
    """
    return column.once("tags", split, lambda split: _read(column, split))


def _read(column: LabelColumn, split: str) -> Tags:
    found = Tags()
    first = 0
    for labels in column.values(split):
        rows = first + np.flatnonzero(pc.is_valid(labels).to_numpy())
        whole = labels.drop_null().combine_chunks()
        if is_list(whole.type):
            _add_lists(column, split, whole, rows, found)
        else:
            found.is_text = True
            _add_texts(whole, column.delimiter or "", rows, found)
        column.require_few(len(found.seen))
        first += len(labels)
    return found


def split_text(text: str, delimiter: str) -> list[str]:
    """Return the tags of a text.

    >>> split_text("red| green |", "|")
    ['red', 'green']
    """
    parts = text.split(delimiter) if delimiter else [text]
    return [tag for tag in map(str.strip, parts) if tag]


def _add_lists(column: LabelColumn, split: str, lists: pa.Array, rows: np.ndarray, found: Tags) -> None:
    lengths = pc.list_value_length(lists).to_numpy()
    for length, place in zip(*np.unique(lengths, return_index=True), strict=True):
        found.lengths.setdefault(int(length), int(rows[place]))
    tags = pc.list_flatten(lists)
    places = np.repeat(np.arange(len(lists)), lengths)
    empty = pc.is_null(tags, nan_is_null=True)
    if pa.types.is_string(tags.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(tags), ""), False))
    if pc.any(empty).as_py():
        bad = rows[np.unique(places[empty.to_numpy(zero_copy_only=False)])].tolist()
        raise UserError(
            f"{column.where}: {len(bad):,} {split} rows have a list with an empty tag "
            f"({column.rows_in_words(split, bad, len(bad))}); a row without tags has an empty list"
        )
    coded = tags.dictionary_encode()
    pairs = np.stack([places, coded.indices.to_numpy()], axis=1)
    distinct, at, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    found.repeated += len(np.unique(distinct[counts > 1, 0]))
    once = np.sort(at)
    tally(tags.take(pa.array(once)), found.seen, rows[places[once]])


def _add_texts(texts: pa.Array, delimiter: str, rows: np.ndarray, found: Tags) -> None:
    coded = texts.dictionary_encode()
    numbers, places, counts = np.unique(coded.indices.to_numpy(), return_index=True, return_counts=True)
    known = coded.dictionary.to_pylist()
    for number, place, count in zip(numbers.tolist(), rows[places].tolist(), counts.tolist(), strict=True):
        tags = split_text(known[number], delimiter)
        found.repeated += count if len({*tags}) < len(tags) else 0
        for tag in dict.fromkeys(tags):
            seen = found.seen.setdefault(tag, Seen(0, place))
            seen.rows, seen.first = seen.rows + count, min(seen.first, place)
