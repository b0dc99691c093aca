"""Optuna's Gaussian processes, without the work that is of no use."""

from __future__ import annotations

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.common import asked_before, barren
from search.samplers.registry import register_sampler, startup_trials


class GaussianProcessSampler(GPSampler):
    """Optuna's sampler, which spares itself seconds of work where it is of no use.

    Its best proposal may be a configuration that was tried before. The answer changes little in the model:
    the next proposal would be the same, and the one after that. So the one after a trial that taught nothing
    is random. And a trial whose values are given, as those of the first points are, gets no proposal at all.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters to model."""
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
