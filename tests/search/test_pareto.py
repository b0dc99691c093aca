from __future__ import annotations

import itertools
import math
import random

import pytest

from search.pareto import dominates, hypervolume, non_dominated


def test_dominance() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((1, 3), (2, 2))


def test_front_keeps_ties_and_drops_nan() -> None:
    points = [(1, 5), (2, 2), (2, 2), (3, 3), (0, math.nan)]
    assert non_dominated(points) == [0, 1, 2]
    assert non_dominated([]) == []


def test_hypervolume_by_hand() -> None:
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(0.25, 0.5)], (1, 1)) == pytest.approx(0.375)
    assert hypervolume([(0, 0.5), (0.5, 0)], (1, 1)) == pytest.approx(0.75)
    assert hypervolume([(0.5,)], (1,)) == 0.5
    assert hypervolume([(2, 0)], (1, 1)) == 0, "what is beyond the reference counts nothing"


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_hypervolume_equals_counting_cells(dimensions) -> None:
    generator = random.Random(dimensions)
    cells = 5
    points = [[generator.randrange(cells) for _ in range(dimensions)] for _ in range(6)]
    counted = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(cells), repeat=dimensions)
    )
    assert hypervolume(points, [cells] * dimensions) == pytest.approx(counted)
