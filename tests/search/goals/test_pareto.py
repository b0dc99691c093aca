from __future__ import annotations

import itertools
import math
import random

import pytest

from search.goals.pareto import (
    SPREADS,
    Front,
    Ranking,
    dominates,
    hypervolume,
    non_dominated,
    priority,
    ranks,
)


def clouds(dimensions, count=6, size=40):
    """Random sets of points: on a coarse grid, so that many are equal, and with infinite values and NaN."""
    generator = random.Random(dimensions)
    for _ in range(count):
        points = [tuple(float(generator.randrange(6)) for _ in range(dimensions)) for _ in range(size)]
        for special in (math.inf, math.nan):
            index = generator.randrange(size)
            points[index] = (*points[index][:-1], special)
        yield points


def front_by_definition(points):
    valid = [i for i, p in enumerate(points) if not any(map(math.isnan, p))]
    return [i for i in valid if not any(dominates(points[j], points[i]) for j in valid)]


def ranks_by_definition(points):
    left = {i: p for i, p in enumerate(points) if all(map(math.isfinite, p))}
    result, rank = {}, 0
    while left:
        front = [i for i, p in left.items() if not any(dominates(q, p) for q in left.values())]
        result |= dict.fromkeys(front, rank)
        left = {i: p for i, p in left.items() if i not in front}
        rank += 1
    return [result.get(i, rank) for i in range(len(points))]


def test_dominance() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((1, 3), (2, 2))


def test_front_keeps_ties_and_drops_nan() -> None:
    points = [(1, 5), (2, 2), (2, 2), (3, 3), (0, math.nan)]
    assert non_dominated(points) == [0, 1, 2]
    assert non_dominated([]) == []
    assert non_dominated([(math.nan,)]) == []
    assert non_dominated([(0, math.inf), (1, 1)]) == [0, 1]


def test_ranks_by_hand() -> None:
    points = [(3, 3), (1, 5), (2, 2), (2, 2), (3, 4), (0, math.nan), (math.inf, 0)]
    assert ranks(points) == [1, 0, 0, 0, 2, 3, 3]
    assert ranks([(3,), (1,), (2,), (1,)]) == [2, 0, 1, 0]
    assert ranks([]) == []


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_fronts_and_ranks_are_those_of_the_definition(dimensions) -> None:
    for points in clouds(dimensions):
        assert non_dominated(points) == front_by_definition(points)
        assert ranks(points) == ranks_by_definition(points)
        finite = [p for p in points if all(map(math.isfinite, p))]
        ranking = Ranking(dimensions)
        for count, point in enumerate(finite, start=1):
            ranking.add(point)
            assert ranking.ranks.tolist() == ranks(finite[:count])


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_growing_front_is_that_of_all_its_points(dimensions) -> None:
    for points in clouds(dimensions):
        front = Front()
        for count, point in enumerate(points, start=1):
            on_front = front.add(count - 1, point)
            expected = non_dominated(points[:count])
            assert on_front == (count - 1 in expected)
            assert sorted(front.keys) == expected
        assert front.members == sorted(((i, points[i]) for i in expected), key=lambda member: member[1])


def test_members_are_in_lexicographic_order_and_equal_ones_stay() -> None:
    front = Front()
    assert front.add("late", (2, 1))
    assert front.add("early", (1, 2))
    assert front.add("equal", (2, 1))
    assert not front.add("dominated", (2, 2))
    assert not front.add("nan", (math.nan, 0))
    assert front.members == [("early", (1, 2)), ("late", (2, 1)), ("equal", (2, 1))]
    assert front.add("better", (1, 1))
    assert front.keys == ["better"]


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


def test_hypervolume_by_hand() -> None:
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(0.25, 0.5)], (1, 1)) == pytest.approx(0.375)
    assert hypervolume([(0, 0.5), (0.5, 0)], (1, 1)) == pytest.approx(0.75)
    assert hypervolume([(0.5,)], (1,)) == 0.5
    assert hypervolume([(2, 0)], (1, 1)) == 0, "what is beyond the reference counts nothing"
    assert hypervolume([(math.nan, 0), (0.5, 0.5)], (1, 1)) == 0.25, "nor does what is not a number"


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_equals_counting_cells(dimensions) -> None:
    generator = random.Random(dimensions)
    cells = 5
    points = [[generator.randrange(cells) for _ in range(dimensions)] for _ in range(6)]
    counted = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(cells), repeat=dimensions)
    )
    assert hypervolume(points, [cells] * dimensions) == pytest.approx(counted)
