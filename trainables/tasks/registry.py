"""The tasks there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from trainables.registry import Registry
from trainables.tasks.base import Task

#: The task of a dataset that does not name its own.
DEFAULT_TASK = "classification"

TASKS: Registry[type[Task]] = Registry("task")

_T = TypeVar("_T", bound=Task)


def register_task(task: type[_T]) -> type[_T]:
    """Put a task in the registry, under its ``name``; a class decorator.

    Raises:
        UserError: If another module has registered one of that name.
    """
    TASKS.register(task.name, task, task.__module__)
    return task


def get_task(name: str) -> type[Task]:
    """Return a registered task.

    Raises:
        UserError: If there is none of that name; the message lists those that exist.
    """
    return TASKS[name]


def read_task(values: Mapping[str, Any]) -> Task:
    """Return the task that ``Task.to_dict`` has described; other entries are ignored."""
    return get_task(values["task"]).from_dict(values)
