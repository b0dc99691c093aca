"""Every registered sampler behaves as a sampler must."""

from __future__ import annotations

from search.samplers import SAMPLERS
from search.testing import sampler_checks
from tests.conformance.each import each
from trainables.testing import Check


@each(check for name in SAMPLERS for check in sampler_checks(name))
def test_sampler(check: Check) -> None:
    check()
