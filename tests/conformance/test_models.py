"""The model of every registered method, and of every probe, answers as in the search."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, model_checks
from trainables.testing.models import probe_checks


@each(check for name in METHODS for check in model_checks(name))
def test_model(check: Check) -> None:
    check()


@each(probe_checks())
def test_probe(check: Check) -> None:
    check()
