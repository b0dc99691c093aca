from __future__ import annotations

import json

from search.records.points import Point
from search.records.status import Status
from tests.search.reporting.histories import add, of_three_methods


def test_a_point_counts_and_measures() -> None:
    history = of_three_methods()
    add(history, "e", 7, 0.1, {"method": "linear", "learning_rate": 1e-3}).status = Status.FAILED
    point = Point.of(history, now=5.0)
    assert (point.time, point.trials) == (5.0, 4)
    assert (point.values["trials"], point.values["failed"], point.values["front_size"]) == (4, 1, 3)
    assert point.values["best.accuracy"] == 0.9
    assert point.values["hypervolume"] == history.hypervolume() > 0


def test_it_survives_json() -> None:
    point = of_three_methods().mark()
    assert Point.from_dict(json.loads(json.dumps(point.to_dict()))) == point
