"""Tasks for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from trainables.task_settings import TaskSettings
from trainables.tasks import LabelColumn, Task, choose_task, get_task, plain, plain_type


def classification(n_classes: int) -> Task:
    return get_task("classification").of_size(n_classes)


def column_of(
    train: Sequence[Any] | pa.Array,
    others: Sequence[Any] = (),
    metadata: Mapping[str, Any] | None = None,
    **settings: Any,
) -> LabelColumn:
    """Labels of the training split, and of the other two."""
    arrays = {"train": pa.array(train), "validation": pa.array(others), "test": pa.array(others)}
    return LabelColumn(
        "column 'label'",
        tuple(arrays),
        lambda split: iter([plain(arrays[split])] if len(arrays[split]) else []),
        (metadata or {}).get,
        TaskSettings(**settings),
    )


def task_of(
    train: Sequence[Any] | pa.Array,
    others: Sequence[Any] = (),
    metadata: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Task:
    """The task of such labels, as a dataset would have it."""
    column = column_of(train, others, metadata, **settings)
    name, _ = choose_task(column, plain_type(pa.array(train).type), None)
    return get_task(name).of_column(column)
