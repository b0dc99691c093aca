"""How far results with inherited weights can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
