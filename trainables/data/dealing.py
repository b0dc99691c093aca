"""Groups of rows that stay together, and how they are dealt out to splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trainables.seeds import shuffled

#: Parts of equal size into which numbers are divided, so that each split has numbers of all sizes.
_PARTS = 10


def groups_of(columns: Sequence[Sequence[bytes | None]], rows: int) -> np.ndarray:
    """Return the number of each row's group, shape (N,). Rows with an equal value are in one group.

    >>> groups_of([[b"a", b"b", b"b", None], [b"x", b"y", b"", b"x"]], 4).tolist()
    [0, 1, 1, 0]

    Args:
        columns: The values of each column, by row. None and b"" are no value and equal to no other.
        rows: Number of rows N.
    """
    at: list[np.ndarray] = []
    nodes: list[np.ndarray] = []
    count = rows
    for values in columns:
        known: dict[bytes, int] = {}
        numbers = np.array([known.setdefault(v, len(known)) if v else -1 for v in values], dtype=np.int64)
        there = np.flatnonzero(numbers >= 0)
        at.append(there)
        nodes.append(count + numbers[there])
        count += len(known)
    if not columns:
        return np.arange(rows)
    # Each row is linked to its values, so that there are as many links as cells, however many rows are equal
    ends = np.concatenate(at), np.concatenate(nodes)
    links = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(count, count))
    found = connected_components(links.tocsr(), directed=False)[1][:rows]
    return np.unique(found, return_inverse=True)[1]


def strata_of(labels: Sequence[Any], delimiter: Any = None) -> tuple[np.ndarray, bool]:
    """Return the stratum of each row (N,), and whether each stratum is a class.

    A class is a stratum. Of several tags, the one that fewest rows have is the row's stratum, so that rare
    tags are not lost. Numbers with fractions, or that hardly ever occur twice, are divided into tenths.

    >>> strata_of(["cat", "dog ", "dog"])[0].tolist()
    [0, 1, 1]

    Args:
        labels: The labels as they are stored.
        delimiter: What stands between the tags of a label, if it is a text.
    """
    if isinstance(delimiter, str) and delimiter:
        labels = [label.split(delimiter) if isinstance(label, str) else label for label in labels]
    if any(isinstance(label, list) for label in labels):
        tags = [_tags(label) if isinstance(label, list) else [label] for label in labels]
        if any(isinstance(tag, float) for row in tags for tag in row):
            return _tenths([row[0] if row else math.nan for row in tags]), False
        counts = Counter(tag for row in tags for tag in row)
        names: list[Any] = [min(row, key=lambda tag: (counts[tag], str(tag)), default=None) for row in tags]
    else:
        names = [_name(label) for label in labels]
        numbers = all(isinstance(name, (int, float)) or name is None for name in names)
        if numbers and (
            any(isinstance(name, float) and not name.is_integer() for name in names)
            or 2 * len({*names}) > len(names) > 2 * _PARTS
        ):
            return _tenths([math.nan if name is None else float(name) for name in names]), False
    known = {name: number for number, name in enumerate(sorted({*names}, key=repr))}
    return np.array([known[name] for name in names], dtype=np.int64), True


def deal(groups: np.ndarray, strata: np.ndarray, in_train: bool, share: float, splits: int) -> np.ndarray:
    """Deal rows out: some to train, and to each of some other splits about the same share.

    The same rows are dealt out in the same way on any machine.

    Args:
        groups: The number of each row's group, from 0, shape (N,). A group stays together.
        strata: The stratum of each row, shape (N,). Each has its share in each split.
        in_train: Whether train gets at least one group of each stratum.
        share: Share of the rows that each of the other splits gets.
        splits: Number of other splits.

    Returns:
        Where each row goes: 0 is train, and 1 … ``splits`` are the others. Shape (N,).
    """
    count = int(groups.max(initial=-1)) + 1
    sizes = np.bincount(groups, minlength=count)
    rank = np.empty(count, dtype=np.int64)
    rank[shuffled(count, "splits")] = np.arange(count)
    rarity = np.bincount(strata)[strata]
    # The stratum of a group is its rarest; ties go to the first in order
    by_rarity = np.lexsort([strata, rarity, groups])
    of_group = strata[by_rarity[np.unique(groups[by_rarity], return_index=True)[1]]]

    side = np.full(count, -1)
    if in_train:
        first = np.lexsort([rank[groups], strata])
        side[groups[first[np.unique(strata[first], return_index=True)[1]]]] = 0
    open_ = np.flatnonzero(side < 0)
    open_ = open_[np.lexsort([rank[open_], of_group[open_]])]
    # What is in train already makes the share of the others larger among the rest, to a degree; and where
    # there are few groups, each split gets one
    rest = max(int(sizes[open_].sum()), 1)
    wanted = min(share * len(groups) / rest, 2 * share)
    wanted = min(max(wanted, 1 / max(len(open_), 1)), 1 / splits)
    shares = np.array([1 - splits * wanted, *[wanted] * splits])
    given, dealt = np.zeros(splits + 1), 0
    for group in open_:
        dealt += sizes[group]
        side[group] = int(np.argmax(shares * dealt - given))
        given[side[group]] += sizes[group]
    return side[groups]


def _name(label: Any) -> Any:
    """Return what is equal for two labels of one class."""
    if isinstance(label, str):
        return label.strip()
    return None if isinstance(label, float) and math.isnan(label) else label


def _tags(label: Iterable[Any]) -> list[Any]:
    """Return the tags of a list: its values, or the places of the ones if it says 1 or 0 for each tag."""
    values = [value.strip() if isinstance(value, str) else value for value in label]
    if len(values) > 2 and all(value in (0, 1) for value in values):
        return [place for place, value in enumerate(values) if value]
    return [value for value in values if value not in (None, "")]


def _tenths(numbers: Sequence[float]) -> np.ndarray:
    """Return the tenth of each number among all, shape (N,)."""
    order = np.argsort(np.argsort(np.array(numbers), kind="stable"), kind="stable")
    return order * _PARTS // max(len(numbers), 1)
