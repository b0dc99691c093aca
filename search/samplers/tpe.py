"""Optuna's tree-structured Parzen estimators."""

from __future__ import annotations

from optuna.samplers import BaseSampler, TPESampler

from search.samplers.registry import register_sampler, startup_trials


@register_sampler("tpe", "tree-structured Parzen estimators: all objectives learnt from trials that ended")
def _make(num_samples: int, seed: int) -> BaseSampler:
    return TPESampler(
        seed=seed,
        multivariate=True,
        group=True,  # parameters that depend on another one's value are modelled together, too
        n_startup_trials=startup_trials(num_samples),
    )
