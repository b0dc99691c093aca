from __future__ import annotations

import itertools
import math
import random

import pytest

from search.goals.pareto import Front, dominates, hypervolume, non_dominated
from tests.search.goals.clouds import clouds


def front_by_definition(points):
    valid = [i for i, p in enumerate(points) if not any(map(math.isnan, p))]
    return [i for i in valid if not any(dominates(points[j], points[i]) for j in valid)]


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


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_fronts_are_those_of_the_definition(dimensions) -> None:
    for points in clouds(dimensions):
        assert non_dominated(points) == front_by_definition(points)


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
