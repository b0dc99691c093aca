"""What every task, method and tower must pass, as code that a plugin's tests may call, too.

Nothing here needs pytest. A method is checked by name, over small encoders with random weights::

    from trainables.testing import check_method

    check_method("my_method")

``method_checks`` and ``tower_checks`` give the same checks one by one, for a test runner to name and choose.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainables.testing.checks import Check, run_all
from trainables.testing.elastic import elastic_checks
from trainables.testing.memory import memory_checks
from trainables.testing.methods import behavior_checks
from trainables.testing.supernets import supernet_checks
from trainables.testing.tasks import check_task
from trainables.testing.towers import tower_checks

__all__ = [
    "Check",
    "behavior_checks",
    "check_method",
    "check_task",
    "check_tower",
    "elastic_checks",
    "memory_checks",
    "method_checks",
    "run_all",
    "supernet_checks",
    "tower_checks",
]


def method_checks(name: str) -> Iterator[Check]:
    """Return all that a method must satisfy: behavior, predicted memory, shared weights.

    Args:
        name: A registered method.
    """
    yield from behavior_checks(name)
    yield from memory_checks(name)
    yield from elastic_checks(name)
    yield from supernet_checks(name)


def check_method(name: str) -> None:
    """Check all that a method must satisfy; it takes some ten seconds.

    Args:
        name: A registered method.

    Raises:
        AssertionError: If it does not pass; a note says which check failed.
    """
    run_all(method_checks(name))


def check_tower(family: str) -> None:
    """Check all that a tower must satisfy.

    Args:
        family: A registered family of encoders.

    Raises:
        AssertionError: If it does not pass; a note says which check failed.
    """
    run_all(tower_checks(family))
