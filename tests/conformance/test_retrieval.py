"""Every registered method fuses documents for a query of another modality."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, retrieval_checks


@each(check for name in METHODS for check in retrieval_checks(name))
def test_method_beside_a_query(check: Check) -> None:
    check()
