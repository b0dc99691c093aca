"""What every registered task must pass."""

from __future__ import annotations

import pytest

from trainables.tasks import TASKS, Metric
from trainables.testing.tasks import check_task


@pytest.mark.parametrize("name", TASKS)
def test_task(name: str) -> None:
    check_task(name)


def test_metrics_of_one_name_are_written_and_compared_alike() -> None:
    known: dict[str, Metric] = {}
    for task in TASKS.values():
        for metric in task.metrics:
            other = known.setdefault(metric.name, metric)
            assert (metric.direction, metric.worst, metric.ideal, metric.unit) == (
                other.direction,
                other.worst,
                other.ideal,
                other.unit,
            )
