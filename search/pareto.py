"""Dominance, fronts and hypervolume: small exact functions.

All take objective values as *losses*: every column is to be minimised. ``search.objectives`` converts.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """Return whether ``a`` is no worse than ``b`` everywhere and better somewhere."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, in order.

    Equal points do not dominate each other: all of them are returned. Points with NaN are never on the
    front.
    """
    valid = [i for i, p in enumerate(points) if all(x == x for x in p)]
    return [i for i in valid if not any(dominates(points[j], points[i]) for j in valid if j != i)]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the volume that the points dominate, up to a reference point (exact, any dimension).

    Args:
        points: Losses, N points of K objectives.
        reference: K values; what is not better than it in every objective counts nothing.
    """
    inside = [tuple(p) for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    return _slice([inside[i] for i in non_dominated(inside)], tuple(reference))


def _slice(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Sum the volume slice by slice along the last objective."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in points)
    volume = 0.0
    levels = sorted({p[-1] for p in points})
    for level, following in zip(levels, [*levels[1:], reference[-1]], strict=True):
        below = [p[:-1] for p in points if p[-1] <= level]
        volume += (following - level) * _slice(below, reference[:-1])
    return volume
