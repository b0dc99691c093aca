"""What is learnt: one file a task, each of which registers itself; importing this package finds them."""

import importlib
import pkgutil

from trainables.tasks.base import Direction, LabelColumn, Metric, Task
from trainables.tasks.registry import DEFAULT_TASK, TASKS, get_task, read_task, register_task

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DEFAULT_TASK",
    "TASKS",
    "Direction",
    "LabelColumn",
    "Metric",
    "Task",
    "get_task",
    "read_task",
    "register_task",
]
