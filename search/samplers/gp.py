"""Optuna's Gaussian processes, without useless proposals."""

from __future__ import annotations

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.common import asked_before, barren
from search.samplers.registry import register_sampler, startup_trials


class GaussianProcessSampler(GPSampler):
    """Optuna's sampler, except that proposals which would be useless are not computed.

    The best proposal may be a configuration that was tried before. Its result hardly changes the model, so
    the next proposals would be the same. After a trial that taught nothing, the proposal is therefore random.
    If a trial's values are given, as those of the first points are, no proposal is computed either.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters to model; none for a random proposal."""
        space = super().infer_relative_search_space(study, trial)
        given = "fixed_params" in trial.system_attrs
        return {} if given or barren(asked_before(study, trial), limit=1) else space


@register_sampler(
    "gp", "Gaussian processes: fewest trials, a second or so each; conditional parameters at random"
)
def _make(num_samples: int, seed: int) -> BaseSampler:
    return GaussianProcessSampler(
        seed=seed, n_startup_trials=startup_trials(num_samples), warn_independent_sampling=False
    )
