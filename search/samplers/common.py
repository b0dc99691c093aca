"""What the samplers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spaces.grid import place_in_range

#: The constraint that says which share of its epochs a trial lacks (of one that diverged, all) …
LACKING = "unfinished"
#: … and the one that devices' memory sets.
DEVICE_MEMORY = "device memory"


class DefineByRun(BaseSampler):
    """A sampler that decides parameter by parameter, in the order in which a space asks."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return that no parameters are decided together beforehand."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values: there are no parameters to decide beforehand."""
        return {}


def asked_before(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials with lower numbers: those asked for before, as waiting ones are asked for first."""
    return study.get_trials(deepcopy=False)[: trial.number]


def barren(trials: Sequence[FrozenTrial], limit: int) -> int:
    """Return how many of the last trials, up to a limit, taught nothing: failed, or repeated another."""
    for streak, trial in enumerate(reversed(trials)):
        earlier = trials[: trial.number]
        if streak == limit or not (trial.state is TrialState.FAIL or _repeats(trial, earlier)):
            return streak
    return len(trials)


def _repeats(trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
    """Whether a trial has an earlier one's values and parameters, but for floats: those may be rounded."""
    if trial.state is not TrialState.COMPLETE:
        return False
    exact = {
        name: trial.params[name]
        for name, distribution in trial.distributions.items()
        if not isinstance(distribution, FloatDistribution)
    }
    return any(
        trial.values == other.values and exact.items() <= other.params.items()
        for other in earlier
        if other.state is TrialState.COMPLETE
    )


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a range, which may depend on other parameters, holds a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    d = numeric(distribution)
    return d.low <= value <= d.high


def value_at(share: float, distribution: BaseDistribution) -> Any:
    """Return the value at some share of a range, in [0, 1); every choice and step has an equal part."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    d = numeric(distribution)
    if d.step is None:
        return min(d.low * (d.high / d.low) ** share if d.log else d.low + (d.high - d.low) * share, d.high)
    if d.log:  # only whole numbers have a step and a log scale; each has its part of that scale
        return min(max(round((d.low - 0.5) * ((d.high + 0.5) / (d.low - 0.5)) ** share), d.low), d.high)
    return d.low + int(share * (round((d.high - d.low) / d.step) + 1)) * d.step


def share_of(value: float, distribution: BaseDistribution) -> float:
    """Return where in its range a number lies, 0 to 1, on the scale of the range."""
    d = numeric(distribution)
    return place_in_range(value, d.low, d.high, d.log)


def numeric(distribution: BaseDistribution) -> IntDistribution | FloatDistribution:
    """Return a distribution that is known to be one of numbers."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution
