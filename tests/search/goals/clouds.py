"""Sets of points that functions on fronts are tried on."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator


def clouds(dimensions: int, count: int = 6, size: int = 40) -> Iterator[list[tuple[float, ...]]]:
    """Random sets of points: on a coarse grid, so that many are equal, and with infinite values and NaN."""
    generator = random.Random(dimensions)
    for _ in range(count):
        points = [tuple(float(generator.randrange(6)) for _ in range(dimensions)) for _ in range(size)]
        for special in (math.inf, math.nan):
            index = generator.randrange(size)
            points[index] = (*points[index][:-1], special)
        yield points
