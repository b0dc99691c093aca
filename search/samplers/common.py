"""Constants, functions and a base class that samplers share."""

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

from trainables.parameters import Choices, Parameter, Range

#: Name of the constraint that holds the share of a trial's epochs that is missing; 1 for one that diverged.
LACKING = "unfinished"
#: Name of the constraint that the memory of the devices sets.
DEVICE_MEMORY = "device memory"


class DefineByRun(BaseSampler):
    """A sampler that decides each parameter alone, in the order in which a space asks."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters, because none are decided together beforehand."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values: there are no parameters to decide beforehand."""
        return {}


def asked_before(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials with lower numbers, which were asked for before: enqueued trials come first."""
    return study.get_trials(deepcopy=False)[: trial.number]


def barren(trials: Sequence[FrozenTrial], limit: int) -> int:
    """Return how many of the last trials in a row, up to a limit, failed or repeated an earlier one."""
    for streak, trial in enumerate(reversed(trials)):
        earlier = trials[: trial.number]
        if streak == limit or not (trial.state is TrialState.FAIL or _repeats(trial, earlier)):
            return streak
    return len(trials)


def _repeats(trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
    """Return whether an earlier trial has the same values and parameters; floats may differ by rounding."""
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


def parameter_of(distribution: BaseDistribution) -> Parameter:
    """Return the parameter that an Optuna distribution describes."""
    if isinstance(distribution, CategoricalDistribution):
        return Choices(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = int if isinstance(distribution, IntDistribution) else float
    return Range(distribution.low, distribution.high, distribution.step, distribution.log, kind)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter."""
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.values)
    if parameter.whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return IntDistribution(low, high, parameter.log, step)
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
