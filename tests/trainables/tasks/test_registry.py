from __future__ import annotations

import pytest

from trainables.errors import UserError
from trainables.tasks import TASKS, get_task, read_task, register_task


def test_unknown_task() -> None:
    with pytest.raises(UserError, match="unknown task 'parsing'; known: classification"):
        get_task("parsing")


def test_a_name_is_registered_once() -> None:
    before = dict(TASKS)
    other = type("Mine", (get_task("classification"),), {"__module__": "own"})
    with pytest.raises(UserError, match="there is a task 'classification' already"):
        register_task(other)
    assert before == TASKS


def test_a_description_among_other_things_is_read() -> None:
    task = read_task({"format": 2, "task": "classification", "classes": ["a", "b"]})
    assert task.to_dict() == {"task": "classification", "classes": ["a", "b"]}
