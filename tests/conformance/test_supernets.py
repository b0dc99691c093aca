"""The predicted memory of training every supernet is that of a real step."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, supernet_checks


@each(check for name in METHODS for check in supernet_checks(name))
def test_supernet(check: Check) -> None:
    check()
