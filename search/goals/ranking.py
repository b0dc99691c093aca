"""Ranks by dominance, and orders within a rank, to choose a few of many points.

All functions take objective values as *losses*, as ``search.goals.pareto`` does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from search.goals.pareto import Array, Point, distinct_rows, dominated_volume, matrix, on_front

#: Distance from the worst point to the default reference of the hypervolume, as a share of the points' range.
#: It is large enough for the ends of a front to count, and too small for them to outweigh its middle.
MARGIN = 0.1


def ranks(points: Sequence[Point]) -> list[int]:
    """Return each point's rank by non-dominated sorting.

    Rank 0 is the front, rank 1 the front of what is left without it, and so on. Equal points share a rank.
    Points with a value that is infinite or not a number share the rank behind all others.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II (2002), Section III.A.
    """
    values = matrix(points)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    distinct, place = distinct_rows(values[finite])
    rank_of = np.zeros(len(distinct), dtype=np.intp)
    left, rank = np.arange(len(distinct)), 0
    while left.size:
        front = on_front(distinct[left])
        rank_of[left[front]] = rank
        left, rank = left[~front], rank + 1
    result = np.full(len(values), rank)
    result[finite] = rank_of[place]
    return result.tolist()


class Ranking:
    """``ranks`` kept up to date while finite points are added.

    A new point shifts other points by at most one rank, and only points that it dominates.

    Args:
        dimensions: Number of objectives.

    Attributes:
        points: The points, of shape (N, K), in the order of adding.
        ranks: The rank of each point, of shape (N,).
    """

    def __init__(self, dimensions: int) -> None:
        self.points = np.empty((0, dimensions))
        self.ranks = np.empty(0, dtype=np.intp)

    def add(self, point: Point) -> None:
        """Add a point and update all ranks."""
        new = np.asarray(point, dtype=np.float64)
        no_worse = np.all(self.points <= new, axis=1)
        no_better = np.all(self.points >= new, axis=1)
        rank = 1 + int(self.ranks[no_worse & ~no_better].max(initial=-1))
        self._shift(new[None], rank, np.flatnonzero(no_better & ~no_worse))
        self.points = np.vstack([self.points, new])
        self.ranks = np.append(self.ranks, rank)

    def _shift(self, entering: Array, rank: int, dominated: NDArray[np.intp]) -> None:
        """Move points that ``entering`` dominates to the next rank, and repeat that rank by rank."""
        shifted = [dominated[:0]]
        while len(entering):
            layer = dominated[self.ranks[dominated] == rank]
            layer = layer[np.any(np.all(self.points[layer, None] >= entering, axis=2), axis=1)]
            if len(layer) == np.count_nonzero(self.ranks == rank):  # a whole rank moves: so do all later ones
                shifted.append(np.flatnonzero(self.ranks >= rank))
                break
            shifted.append(layer)
            entering, rank = self.points[layer], rank + 1
        self.ranks[np.concatenate(shifted)] += 1


def priority(
    points: Sequence[Point], reference: Point | None = None, *, by: str = "epsilon_net"
) -> list[int]:
    """Return the points' indices, best first: by rank, and within a rank so that the first are well spread.

    ``epsilon_net`` starts with the point that is best in the first objective, and then takes the point that
    is farthest from all chosen ones. ``hypervolume`` always takes the point that adds most to the dominated
    volume. Both scale each objective so that the points range from 0 to 1. The result does not depend on the
    order in which points are given: of equally good points, the lexicographically smaller one comes first.
    Points with a value that is infinite or not a number come last.

    Source: Salinas et al., A multi-objective perspective on jointly tuning hardware and hyperparameters
    (2021), arXiv:2106.05680; Schmucker et al., Multi-objective asynchronous successive halving (2021),
    arXiv:2106.12639.

    Args:
        points: Losses, N points of K objectives.
        reference: The reference point for ``hypervolume``; by default a tenth of the range beyond the worst.
        by: A name in ``SPREADS``.
    """
    values = matrix(points)
    rank_of = np.asarray(ranks(points), dtype=np.intp)
    finite = np.all(np.isfinite(values), axis=1)
    in_order = np.lexsort((*values.T[::-1], rank_of))
    result: list[int] = []
    for rank in range(int(rank_of[finite].max(initial=-1)) + 1):
        layer = in_order[rank_of[in_order] == rank]
        result += [int(layer[i]) for i in spread(values[layer], values[finite], reference, by=by)]
    return result + [int(i) for i in in_order if not finite[i]]


def spread(layer: Array, among: Array, reference: Point | None = None, *, by: str) -> Iterator[int]:
    """Yield the indices of points of one rank, in the order of ``priority``; each is computed on demand.

    Args:
        layer: Finite losses of one rank, in lexicographic order.
        among: Finite losses of all ranks, whose range sets the scale.
        reference: See ``priority``.
        by: A name in ``SPREADS``.
    """
    low = among.min(axis=0)
    span = among.max(axis=0) - low
    span[span == 0] = 1.0
    worst = np.full(len(low), 1 + MARGIN) if reference is None else (np.asarray(reference) - low) / span
    return SPREADS[by]((layer - low) / span, worst)


def _epsilon_net(points: Array, _: Array) -> Iterator[int]:
    """Yield the first point, and then always the one that is farthest from all before."""
    distance = np.full(len(points), np.inf)
    for _step in range(len(points)):
        chosen = int(distance.argmax())
        yield chosen
        distance = np.minimum(distance, ((points - points[chosen]) ** 2).sum(axis=1))
        distance[chosen] = -np.inf


def _greedy_hypervolume(points: Array, reference: Array) -> Iterator[int]:
    """Yield the points, each of which adds the largest volume to those before."""

    def gain(index: int) -> float:
        point = points[index]
        if (point >= reference).any():
            return 0.0
        # The gain is the part of the box between point and reference that no chosen point dominates.
        return float((reference - point).prod()) - dominated_volume(
            np.maximum(points[chosen], point), reference
        )

    chosen: list[int] = []
    heap = [(-gain(index), index) for index in range(len(points))]
    heapq.heapify(heap)
    while heap:
        _, index = heapq.heappop(heap)
        # A point's gain only shrinks as others are chosen: a point that still leads is the best.
        entry = (-gain(index), index)
        if heap and entry > heap[0]:
            heapq.heappush(heap, entry)
        else:
            yield index
            chosen.append(index)


#: Orders within a rank, by name; each puts well-spread points first.
SPREADS: dict[str, Callable[[Array, Array], Iterator[int]]] = {
    "epsilon_net": _epsilon_net,
    "hypervolume": _greedy_hypervolume,
}
