"""Every registered method behaves as a method must."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, behavior_checks


@each(check for name in METHODS for check in behavior_checks(name))
def test_method(check: Check) -> None:
    check()
