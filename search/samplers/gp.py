"""Optuna's Gaussian processes, without useless proposals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
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

    def own_state(self) -> dict[str, Any]:
        """Return the parameters of the last kernels, from which the next ones are fitted."""
        return {name: _kernels(getattr(self, name)) for name in _CACHES}

    def restore_own(self, state: dict[str, Any]) -> None:
        """Take over kernels."""
        for name in _CACHES:
            setattr(self, name, _cache(state[name]))


#: Attributes of Optuna's sampler with the last models of the objectives and of the constraints.
_CACHES = ("_gprs_cache_list", "_constraints_gprs_cache_list")
#: The parts of such a model that the next fit reads.
_KERNEL = ("inverse_squared_lengthscales", "kernel_scale", "noise_var")


def _kernels(cache: list[Any] | None) -> list[dict[str, Any]] | None:
    if cache is None:
        return None
    return [{name: getattr(model, name).detach().tolist() for name in _KERNEL} for model in cache]


def _cache(kernels: list[dict[str, Any]] | None) -> list[Any] | None:
    if kernels is None:
        return None
    return [
        SimpleNamespace(**{name: torch.tensor(kernel[name], dtype=torch.float64) for name in _KERNEL})
        for kernel in kernels
    ]


@register_sampler(
    "gp", "Gaussian processes: fewest trials, a second or so each; conditional parameters at random"
)
def _make(num_samples: int, seed: int) -> BaseSampler:
    return GaussianProcessSampler(
        seed=seed, n_startup_trials=startup_trials(num_samples), warn_independent_sampling=False
    )
