"""Optuna's random sampler."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from search.samplers.registry import register_sampler


@register_sampler("random", "random points")
def _make(num_samples: int, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)
