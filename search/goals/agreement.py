"""How far the ranking of subnets by inherited weights can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import kendalltau


def kendall_tau(inherited: Sequence[float], own: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two rankings: 1 if they agree, 0 if they have nothing to do with each other.

    None if there are fewer than two subnets, or all are equal in one of the two.

    Args:
        inherited: A metric of each subnet with the weights that it inherits.
        own: The same after training on its own.
    """
    if len(inherited) < 2:
        return None
    tau = float(kendalltau(inherited, own).statistic)
    return None if math.isnan(tau) else tau


@dataclass(frozen=True)
class RankAgreement:
    """A random sample of subnets, with inherited weights and trained on their own.

    Attributes:
        objective: What they are ranked by.
        inherited: Its value of each subnet with inherited weights.
        own: Its value of each after training on its own.
        rows: Rows of the validation split, of which the objective is a share; None if it is no share of rows.
    """

    objective: str
    inherited: tuple[float, ...]
    own: tuple[float, ...]
    rows: int | None

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b of the two; None if it is not defined."""
        return kendall_tau(self.inherited, self.own)

    @property
    def spread(self) -> float:
        """Standard deviation of the subnets' own results; at least two are needed."""
        return stdev(self.own)

    @property
    def uncertainty(self) -> float | None:
        """Standard error of a share of so many rows; None of what is no share of rows."""
        mean = fmean(self.own)
        return math.sqrt(mean * (1 - mean) / self.rows) if self.rows else None
