"""Checks as parameters of tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from trainables.testing import Check


def each(checks: Iterable[Check]) -> pytest.MarkDecorator:
    """Run a test once for each check, under its name; slow ones are marked so."""
    marks = {False: (), True: (pytest.mark.slow,)}
    cases = [pytest.param(check, id=str(check), marks=marks[check.slow]) for check in checks]
    return pytest.mark.parametrize("check", cases)
