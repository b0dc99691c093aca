"""The predicted memory of every registered method is that of a real step."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, memory_checks


@each(check for name in METHODS for check in memory_checks(name))
def test_memory(check: Check) -> None:
    check()
