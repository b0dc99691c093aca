"""Checks that every task, method and tower must pass. The tests of a plugin may call them, too.

The checks do not need pytest. A method is checked by name, over small encoders with random weights::

    from trainables.testing import check_method

    check_method("my_method")

``method_checks`` and ``tower_checks`` yield the same checks one by one, so that a test runner can name and
select them.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainables.testing.checks import Check, run_all
from trainables.testing.elastic import elastic_checks
from trainables.testing.memory import memory_checks
from trainables.testing.methods import behavior_checks
from trainables.testing.models import model_checks
from trainables.testing.retrieval import retrieval_checks
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
    "model_checks",
    "retrieval_checks",
    "run_all",
    "supernet_checks",
    "tower_checks",
]


def method_checks(name: str) -> Iterator[Check]:
    """Yield all checks of a method: behaviour, predicted memory, weight sharing, retrieval, and models.

    Args:
        name: Name of a registered method.
    """
    yield from behavior_checks(name)
    yield from memory_checks(name)
    yield from elastic_checks(name)
    yield from supernet_checks(name)
    yield from retrieval_checks(name)
    yield from model_checks(name)


def check_method(name: str) -> None:
    """Run all checks of a method, which takes about ten seconds.

    Args:
        name: Name of a registered method.

    Raises:
        AssertionError: If a check fails; a note names the check.
    """
    run_all(method_checks(name))


def check_tower(family: str) -> None:
    """Run all checks of a tower.

    Args:
        family: Name of a registered family of encoders.

    Raises:
        AssertionError: If a check fails; a note names the check.
    """
    run_all(tower_checks(family))
