"""Checks that every sampler and objective must pass; authors can call them from an installed package.

They need neither pytest nor a running Ray::

    from search.testing import check_sampler

    check_sampler("my_sampler")

``sampler_checks`` yields the same checks one by one, so that a test runner can name and select them.
"""

from __future__ import annotations

from search.testing.objectives import check_objective
from search.testing.samplers import sampler_checks
from trainables.testing import run_all

__all__ = ["check_objective", "check_sampler", "sampler_checks"]


def check_sampler(name: str) -> None:
    """Run all checks of a sampler.

    Args:
        name: Name of a registered sampler.

    Raises:
        AssertionError: If a check fails; a note names the check.
    """
    run_all(sampler_checks(name))
