"""What every sampler and objective must pass, as code that authors may call from an installed package.

Nothing here needs pytest, nor Ray to run::

    from search.testing import check_sampler

    check_sampler("my_sampler")

``sampler_checks`` gives the same checks one by one, for a test runner to name and choose.
"""

from __future__ import annotations

from search.testing.objectives import check_objective
from search.testing.samplers import sampler_checks
from trainables.testing import run_all

__all__ = ["check_objective", "check_sampler", "sampler_checks"]


def check_sampler(name: str) -> None:
    """Check all that a sampler must satisfy.

    Args:
        name: A registered sampler.

    Raises:
        AssertionError: If it does not pass; a note says which check failed.
    """
    run_all(sampler_checks(name))
