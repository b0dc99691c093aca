"""Checks as parameters of tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from zlib import crc32

import pytest

from trainables.testing import Check

#: Of the slow checks of a kind and a subject, such as a method, ``make test`` runs one in so many.
ONE_IN = 4


def each(checks: Iterable[Check]) -> pytest.MarkDecorator:
    """Run a test once for each check, under its name; slow ones are marked so.

    Only ``make test-full`` runs all slow ones. Which ones ``make test`` runs differs from subject to subject,
    so that it runs each setting or option with some of them, and of each kind at least one with each.
    """
    checks = list(checks)
    sizes = Counter(_group(check) for check in checks if check.slow)
    seen: Counter[object] = Counter()
    cases = []
    for check in checks:
        marks: tuple[pytest.MarkDecorator, ...] = ()
        if check.slow:
            group = _group(check)
            first = crc32(str(check.arguments[0]).encode()) % min(ONE_IN, sizes[group])
            runs = seen[group] % ONE_IN == first
            seen[group] += 1
            marks = (pytest.mark.slow,) if runs else (pytest.mark.slow, pytest.mark.full)
        cases.append(pytest.param(check, id=str(check), marks=marks))
    return pytest.mark.parametrize("check", cases)


def _group(check: Check) -> object:
    return check.function, str(check.arguments[0])
