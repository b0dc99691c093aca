"""Tasks, one file each. Importing this package imports all files, and each file registers its task."""

from trainables.registry import import_modules
from trainables.tasks.base import Direction, Metric, Task
from trainables.tasks.choosing import choose_task
from trainables.tasks.labels import LabelColumn, common_type, plain, plain_type
from trainables.tasks.registry import DEFAULT_TASK, TASKS, get_task, read_task, register_task

import_modules(__name__, __path__)

__all__ = [
    "DEFAULT_TASK",
    "TASKS",
    "Direction",
    "LabelColumn",
    "Metric",
    "Task",
    "choose_task",
    "common_type",
    "get_task",
    "plain",
    "plain_type",
    "read_task",
    "register_task",
]
