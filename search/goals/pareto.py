"""Dominance, fronts and hypervolume: small exact functions.

All functions take objective values as *losses*, for which less is better in every column.
``search.goals.objectives`` converts values to losses.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Point = Sequence[float]
Array = NDArray[np.float64]
Key = TypeVar("Key")


def dominates(a: Point, b: Point) -> bool:
    """Return whether ``a`` is no worse than ``b`` everywhere and better somewhere."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, in order.

    Equal points do not dominate each other: all of them are returned. Points with NaN are never on the
    front.

    >>> non_dominated([(1, 3), (2, 2), (3, 3)])
    [0, 1]
    """
    values = matrix(points)
    valid = np.flatnonzero(~np.isnan(values).any(axis=1))
    distinct, place = distinct_rows(values[valid])
    return valid[on_front(distinct)[place]].tolist()


class Front(Generic[Key]):
    """A front that grows point by point; adding one takes time proportional to the front's size.

    Its members are the points that ``non_dominated`` finds among all added points.
    """

    def __init__(self) -> None:
        self._members: list[tuple[tuple[float, ...], Key]] = []

    def add(self, key: Key, point: Point) -> bool:
        """Add a point and remove the members that it dominates; return whether it is on the front."""
        losses = tuple(point)
        if any(x != x for x in losses) or any(dominates(other, losses) for other, _ in self._members):
            return False
        self._members = [member for member in self._members if not dominates(losses, member[0])]
        insort_right(self._members, (losses, key), key=lambda member: member[0])
        return True

    @property
    def members(self) -> list[tuple[Key, tuple[float, ...]]]:
        """Keys and losses, in lexicographic order of the losses; equal points in the order of adding."""
        return [(key, losses) for losses, key in self._members]

    @property
    def keys(self) -> list[Key]:
        """Keys of the members, in the order of ``members``."""
        return [key for _, key in self._members]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the exact volume that points dominate, up to a reference point, in any dimension.

    >>> hypervolume([(1, 3), (2, 2)], (4, 4))
    5.0

    Args:
        points: Losses, N points of K objectives.
        reference: K losses; a point that is not better in every objective adds nothing.
    """
    if not len(points):
        return 0.0
    values, corner = matrix(points), np.asarray(reference, dtype=np.float64)
    inside, _ = distinct_rows(values[(values < corner).all(axis=1)])
    return dominated_volume(inside[on_front(inside)], corner)


def matrix(points: Sequence[Point]) -> Array:
    """Return points as the rows of an array; without points, its shape is (0, 0)."""
    return np.asarray(points, dtype=np.float64) if len(points) else np.empty((0, 0))


def distinct_rows(values: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the distinct rows in lexicographic order, and for each row its index among them."""
    if not len(values):
        return values, np.empty(0, dtype=np.intp)
    order = np.lexsort(values.T[::-1])
    rows = values[order]
    new = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
    place = np.empty(len(rows), dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return rows[new], place


def on_front(distinct: Array) -> NDArray[np.bool_]:
    """Return a mask of the rows on the front, for distinct rows in lexicographic order.

    No row dominates an earlier row. An earlier row dominates a row unless the row is better in a column other
    than the first.
    """
    front = np.zeros(len(distinct), dtype=np.bool_)
    if distinct.shape[1] == 2 and len(distinct):
        front[0] = True
        front[1:] = distinct[1:, 1] < np.minimum.accumulate(distinct[:-1, 1])
        return front
    left, rest = np.arange(len(distinct)), distinct[:, 1:]
    while left.size:
        front[left[0]] = True
        better_somewhere = (rest < rest[0]).any(axis=1)
        left, rest = left[better_somewhere], rest[better_somewhere]
    return front


def dominated_volume(inside: Array, corner: Array) -> float:
    """Return the volume that points dominate, up to a corner that is worse than all of them."""
    if not len(inside):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - inside.min())
    if len(corner) == 2:  # one sweep along the first objective
        front, _ = distinct_rows(inside)
        front = front[on_front(front)]
        widths = np.diff(front[:, 0], append=corner[0])
        return float(widths @ (corner[1] - front[:, 1]))
    levels = np.unique(inside[:, -1])  # slice by slice along the last objective
    heights = np.diff(levels, append=corner[-1])
    return sum(
        float(height) * dominated_volume(inside[inside[:, -1] <= level, :-1], corner[:-1])
        for level, height in zip(levels, heights, strict=True)
    )
