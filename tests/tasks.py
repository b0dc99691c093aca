"""Tasks for tests."""

from __future__ import annotations

from trainables.tasks import Task, get_task


def classification(n_classes: int) -> Task:
    return get_task("classification").of_size(n_classes)
