"""Parameters and Optuna's distributions say the same."""

from __future__ import annotations

import pytest

from search.samplers.common import distribution_of, parameter_of
from trainables.parameters import Choices, Range


@pytest.mark.parametrize(
    "parameter",
    [
        Range(1, 9, step=2),
        Range(1, 32, log=True),
        Range(0.0, 1.0),
        Range(0.0, 1.0, step=0.25),
        Range(1e-4, 1e-2, log=True),
        Choices(("a", 1, None)),
    ],
    ids=repr,
)
def test_there_and_back(parameter) -> None:
    assert parameter_of(distribution_of(parameter)) == parameter


def test_a_high_end_that_no_step_reaches_is_lowered_as_optuna_does() -> None:
    with pytest.warns(UserWarning, match="not divisible by `step`"):
        distribution = distribution_of(Range(0, 10, step=4))
    assert parameter_of(distribution) == Range(0, 8, step=4)
