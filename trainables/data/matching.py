"""Pairs of pictures and titles: does the title belong to the picture?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.seeds import shuffled
from trainables.tasks.classification import Classification

#: The classes, in the order of their indices.
CLASSES = ("mismatch", "match")

#: How often wrong titles are dealt out anew if the last pictures are left with none that fits.
_TRIES = 100


class Pairs(NamedTuple):
    """Pairs of pictures and titles, by the numbers of the rows from which they come; arrays of shape (P,).

    Attributes:
        pictures: The row of each pair's picture.
        titles: The row of each pair's title.
        labels: 1 if the title is the picture's own, else 0.
    """

    pictures: np.ndarray
    titles: np.ndarray
    labels: np.ndarray


def matched(titles: Sequence[str], classes: Sequence[object], k: int, seed: int) -> Pairs:
    """Pair each picture with its own title and with ``k`` wrong ones.

    A wrong title comes from a row of another class, and differs from the picture's other titles. Each row's
    title is used ``k`` times as a wrong one. So the share of matches is the same for each picture and each
    title, and neither alone tells anything about the label. Nor does any sum of a function of the picture and
    a function of the title: none has a smaller cross entropy on the pairs than a constant has. At a constant
    the gradient is zero, and the loss is convex.

    Args:
        titles: Title of each row.
        classes: Class of each row.
        k: Number of wrong titles for each picture.
        seed: Decides which titles; the same one gives the same pairs on any machine.

    Returns:
        The pairs of the first row's picture, its own title first, then those of the next row.

    Raises:
        UserError: If there are not enough titles of other classes.

    Example:
        >>> pairs = matched(["a cat", "a dog", "a car"], ["animal", "plant", "vehicle"], k=1, seed=0)
        >>> pairs.pictures.tolist(), pairs.labels.tolist()
        ([0, 0, 1, 1, 2, 2], [1, 0, 1, 0, 1, 0])
    """
    texts, groups = _numbered(titles), _numbered(classes)
    for attempt in range(_TRIES):
        table = _deal(texts, groups, k, f"{seed}-{attempt}")
        if table is not None:
            labels = np.zeros_like(table)
            labels[:, 0] = 1
            pictures = np.repeat(np.arange(len(table)), k + 1)
            return Pairs(pictures, table.ravel(), labels.ravel())
    largest = int(np.bincount(groups).max())
    raise UserError(
        f"{len(texts):,} rows, {largest:,} of them of one class, cannot each get {k} wrong "
        f"title{'s' if k > 1 else ''}: one of another class, with each title used equally often"
    )


def _deal(texts: np.ndarray, groups: np.ndarray, k: int, salt: str) -> np.ndarray | None:
    """Return the rows of each picture's titles (N, 1 + k), its own first, or None if one got stuck."""
    rows = np.arange(len(texts))
    dealt = rows[:, None]
    for lap in range(k):
        titles = np.array(shuffled(len(texts), f"{salt}-{lap}"))

        def fits(
            pictures: int | np.ndarray, given: int | np.ndarray, dealt: np.ndarray = dealt
        ) -> np.ndarray:
            new = (texts[given][..., None] != texts[dealt[pictures]]).all(axis=-1)
            return new & (groups[pictures] != groups[given])

        for row in np.flatnonzero(~fits(rows, titles)).tolist():
            if fits(row, titles[row]):
                continue  # an exchange with a row before has mended it
            others = np.flatnonzero(fits(row, titles) & fits(rows, titles[row]))
            if not len(others):
                return None
            other = others[np.searchsorted(others, row) % len(others)]  # the next one
            titles[[row, other]] = titles[[other, row]]
        dealt = np.column_stack([dealt, titles])
    return dealt


def _numbered(values: Sequence[object]) -> np.ndarray:
    """Return a number for each value; equal values have equal numbers."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


@dataclass(frozen=True)
class MatchedRows:
    """The rows of a dataset of pictures with titles as matching and wrong pairs, within each split.

    Texts and images are those of the dataset, which is read into memory. Pairs are as ``matched`` makes them.
    Titles that differ in case or white space only count as equal.

    Attributes:
        dataset: The dataset, with classes as labels.
        k: Number of wrong titles for each picture.
        seed: Decides which.
    """

    dataset: Dataset
    k: int
    seed: int

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return SPLITS

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the dataset and of the pairs, and thus of the rule that makes them."""
        digest = hashlib.sha256(self.dataset.fingerprint.encode())
        for split in SPLITS:
            digest.update(np.stack(self.pairs[split]).astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def pairs(self) -> dict[str, Pairs]:
        """The pairs of each split.

        Raises:
            UserError: If there are not enough titles of other classes.
        """
        found = {}
        for split in SPLITS:
            table = self._table(split, [self.dataset.modalities["text"].column, self.dataset.label])
            texts, classes = (column.to_pylist() for column in table.columns)
            titles = [" ".join((text or "").casefold().split()) for text in texts]
            try:
                found[split] = matched(titles, classes, self.k, self.seed)
            except UserError as error:
                raise UserError(f"dataset '{self.dataset.name}', {split}: {error}") from error
        return found

    def count(self, split: str) -> int:
        """Return the number of pairs of a split."""
        return len(self.pairs[split].labels)

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the pairs of a split in order, in batches of at most ``rows`` pairs.

        Columns that are neither titles nor labels are those of the pictures' rows.
        """
        pairs, modalities, label = self.pairs[split], self.dataset.modalities, self.dataset.label
        table = self._table(split, [column for column in columns if column != label])
        taken = dict.fromkeys(columns, pairs.pictures) | {modalities["text"].column: pairs.titles}
        for start in range(0, len(pairs.labels), rows):
            part = slice(start, start + rows)
            yield pa.record_batch(
                {
                    column: pa.array(CLASSES).take(pa.array(pairs.labels[part]))
                    if column == label
                    else table[column].take(pa.array(taken[column][part])).combine_chunks()
                    for column in columns
                }
            )

    def words(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return what the user calls some pairs: the row of each one's picture."""
        return self.dataset.rows.words(split, self.pairs[split].pictures[list(rows)].tolist())

    def _table(self, split: str, columns: list[str]) -> pa.Table:
        batches = list(self.dataset.batches(split, columns))
        return pa.Table.from_batches(batches).select(columns)


def matched_dataset(dataset: Dataset, *, k: int, seed: int) -> Dataset:
    """Return the dataset that asks whether a title belongs to a picture.

    Args:
        dataset: A dataset of pictures with titles, and classes as labels.
        k: Number of wrong titles for each picture, see ``matched``.
        seed: Decides which.
    """
    modalities = {modality: dataset.modalities[modality] for modality in ("text", "image")}
    rows = MatchedRows(dataset, k, seed)
    return replace(
        dataset,
        rows=rows,
        metadata={"paretofuse.classes": json.dumps(CLASSES)},
        modalities=modalities,
        kind=Classification.name,
        decided="as the dataset says",
    )
