"""The registry of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from trainables.registry import Registry
from trainables.tasks.base import Task

#: The task of labels whose type names no other.
DEFAULT_TASK = "classification"

TASKS: Registry[type[Task]] = Registry("task")

_T = TypeVar("_T", bound=Task)


def register_task(task: type[_T]) -> type[_T]:
    """Register a task class under its ``name``; use as a class decorator.

    Raises:
        UserError: If another module has already registered the name.
    """
    TASKS.register(task.name, task, task.__module__)
    return task


def get_task(name: str) -> type[Task]:
    """Return a registered task class.

    Raises:
        UserError: If the name is unknown; the message lists the registered names.
    """
    return TASKS[name]


def read_task(values: Mapping[str, Any]) -> Task:
    """Return the task that ``Task.to_dict`` describes; unknown entries are ignored."""
    return get_task(values["task"]).from_dict(values)
