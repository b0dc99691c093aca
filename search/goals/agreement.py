"""What inherited weights are worth: whether subnets have learnt, and whether they rank as trained ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from search.goals.objectives import Objective

#: Probability that the best of some guesses counts as more than a guess.
_DOUBT = 0.02


def kendall_tau(inherited: Sequence[float], own: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two rankings: 1 if they agree, 0 if they are unrelated.

    The result is None if there are fewer than two subnets, or if all are equal in one of the rankings.

    Args:
        inherited: A metric of each subnet with inherited weights.
        own: The same metric after each subnet was trained on its own.
    """
    if len(inherited) < 2:
        return None
    from scipy.stats import kendalltau

    tau = float(kendalltau(inherited, own).statistic)
    return None if math.isnan(tau) else tau


def share_error(share: float, rows: int) -> float:
    """Return the standard error of a share of some rows."""
    return math.sqrt(share * (1 - share) / rows)


def may_be_guessed(objective: Objective, best: float, of: int, guess: float, rows: int) -> bool:
    """Return whether the best of some results is no better than guessing by more than luck.

    Of an objective that is no share of rows, the luck is unknown, and not counted.

    Args:
        objective: The objective that the results are of.
        best: The best result.
        of: Number of results. The more there are, the luckier is the best of them.
        guess: The objective's value without having learnt anything.
        rows: Number of rows that a result is of.
    """
    errors = NormalDist().inv_cdf(1 - _DOUBT / of)
    luck = errors * share_error(guess, rows) if objective.share_of_rows else 0.0
    return objective.loss(best) >= objective.loss(guess) - luck


@dataclass(frozen=True)
class RankAgreement:
    """Results of a random sample of subnets, with inherited weights and trained on their own.

    Attributes:
        objective: Name of the objective by which subnets are ranked.
        inherited: The objective's value of each subnet with inherited weights.
        own: The objective's value of each subnet after training on its own.
        rows: Number of rows of the validation split, if the objective is a share of them; else None.
    """

    objective: str
    inherited: tuple[float, ...]
    own: tuple[float, ...]
    rows: int | None

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b of the two rankings; None if it is not defined."""
        return kendall_tau(self.inherited, self.own)

    @property
    def spread(self) -> float:
        """Standard deviation of the subnets' own results; it needs at least two subnets."""
        return stdev(self.own)

    @property
    def uncertainty(self) -> float | None:
        """Standard error of the objective as a share of ``rows``; None if it is no share of rows."""
        return share_error(fmean(self.own), self.rows) if self.rows else None
