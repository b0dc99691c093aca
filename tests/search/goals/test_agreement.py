"""Inherited against own results of subnets."""

from __future__ import annotations

import pytest

from search.goals.agreement import RankAgreement, kendall_tau, may_be_guessed
from search.goals.objectives import get_objectives
from search.reporting.tables import tau_line


def test_kendall_tau_says_how_far_two_rankings_agree() -> None:
    assert kendall_tau([1, 2, 3], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert kendall_tau([1, 2, 3], [0.3, 0.2, 0.1]) == pytest.approx(-1)
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(2 / 3)
    assert kendall_tau([1], [1]) is None
    assert kendall_tau([1, 1], [1, 2]) is None


@pytest.mark.parametrize(
    ("name", "best", "of", "rows", "guessed"),
    [
        ("accuracy", 0.49, 1, 722, True),
        ("accuracy", 0.525, 1, 722, True),  # by 1.3 standard errors
        ("accuracy", 0.54, 1, 722, False),
        ("accuracy", 0.54, 1, 100, True),
        ("accuracy", 0.565, 500, 722, True),  # by 3.5 standard errors, as the best of 500 guesses may be
        ("accuracy", 0.58, 500, 722, False),
        ("loss", 0.51, 1, 100, True),
        ("loss", 0.49, 500, 100, False),  # of what is no share of rows, nothing is known
    ],
)
def test_what_is_better_than_guessing_by_luck_may_be_guessed(name, best, of, rows, guessed) -> None:
    (objective,) = get_objectives((name,))
    assert may_be_guessed(objective, best, of, 0.5, rows) is guessed


def test_says_whether_there_is_anything_to_rank() -> None:
    apart = RankAgreement("accuracy", (0.4, 0.5, 0.6), (0.5, 0.6, 0.7), 400)
    assert tau_line(apart) == (
        "Kendall's tau of inherited against own accuracy, over 3 random subnets: 1.00 "
        "(1: the same ranking; 0: no relation)"
    )
    close = RankAgreement("accuracy", (0.4, 0.5, 0.6), (0.61, 0.6, 0.59), 400)
    assert tau_line(close).endswith(
        "-1.00 (1: the same ranking; 0: no relation). There is little to rank: their own accuracy varies by "
        "0.010 (standard deviation), and over 400 rows each is uncertain by 0.024"
    )
    assert "little to rank" not in tau_line(RankAgreement("loss", (1.0, 1.1, 1.2), (1.0, 1.01, 1.02), None))
    assert "is unknown" in tau_line(RankAgreement("accuracy", (0.4,), (0.5,), 400))
