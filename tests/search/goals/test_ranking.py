from __future__ import annotations

import math
import random

import pytest

from search.goals.pareto import dominates, hypervolume, non_dominated
from search.goals.ranking import SPREADS, Ranking, priority, ranks
from tests.search.goals.clouds import clouds


def ranks_by_definition(points):
    left = {i: p for i, p in enumerate(points) if all(map(math.isfinite, p))}
    result, rank = {}, 0
    while left:
        front = [i for i, p in left.items() if not any(dominates(q, p) for q in left.values())]
        result |= dict.fromkeys(front, rank)
        left = {i: p for i, p in left.items() if i not in front}
        rank += 1
    return [result.get(i, rank) for i in range(len(points))]


def test_ranks_by_hand() -> None:
    points = [(3, 3), (1, 5), (2, 2), (2, 2), (3, 4), (0, math.nan), (math.inf, 0)]
    assert ranks(points) == [1, 0, 0, 0, 2, 3, 3]
    assert ranks([(3,), (1,), (2,), (1,)]) == [2, 0, 1, 0]
    assert ranks([]) == []


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_ranks_are_those_of_the_definition(dimensions) -> None:
    for points in clouds(dimensions):
        assert ranks(points) == ranks_by_definition(points)
        finite = [p for p in points if all(map(math.isfinite, p))]
        ranking = Ranking(dimensions)
        for count, point in enumerate(finite, start=1):
            ranking.add(point)
            assert ranking.ranks.tolist() == ranks(finite[:count])


def test_an_epsilon_net_begins_at_the_ends() -> None:
    points = [(0, 4), (1, 2), (2, 1), (4, 0), (3, 3), (4, 4)]
    assert priority(points) == [0, 3, 1, 2, 4, 5], "of the two in the middle, the lexicographically smaller"


def test_an_epsilon_net_weighs_objectives_by_the_range_of_all_ranks() -> None:
    points = [(0, 100), (1, 50), (7, 30), (10, 0)]
    assert priority(points) == [0, 3, 1, 2]
    assert priority([*points, (10, 1000)]) == [0, 3, 2, 1, 4], "a loss of 50 or 30 is now nearly the same"


def test_hypervolume_order_by_hand() -> None:
    points = [(0, 4), (1, 2), (2, 1.25), (4, 0.5), (6, 6)]
    assert priority(points, (5, 5), by="hypervolume") == [1, 2, 0, 3, 4]


@pytest.mark.parametrize("by", sorted(SPREADS))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_priority_goes_by_rank_and_not_by_arrival(dimensions, by) -> None:
    for points in clouds(dimensions, count=3, size=25):
        rank_of, order = ranks(points), priority(points, by=by)
        assert sorted(order) == list(range(len(points)))
        assert [rank_of[i] for i in order] == sorted(rank_of)
        shuffled = random.Random(1).sample(points, len(points))
        assert repr([shuffled[i] for i in priority(shuffled, by=by)]) == repr([points[i] for i in order])
    assert priority([], by=by) == []


def test_greedy_hypervolume_takes_the_largest_gain_each_time() -> None:
    generator = random.Random(0)
    points = [tuple(generator.random() for _ in range(3)) for _ in range(15)]
    reference = (1.0, 1.0, 1.0)
    front = [points[i] for i in non_dominated(points)]
    chosen: list[tuple[float, ...]] = []
    for i in priority(front, reference, by="hypervolume"):
        gains = [hypervolume([*chosen, p], reference) for p in front if p not in chosen]
        chosen.append(front[i])
        assert hypervolume(chosen, reference) == pytest.approx(max(gains))
