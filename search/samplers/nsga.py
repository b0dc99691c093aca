"""Optuna's genetic algorithms."""

from __future__ import annotations

from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler

from search.samplers.registry import population_size, register_sampler


@register_sampler("nsga2", "NSGA-II: a genetic algorithm with crowding distance; needs a few generations")
def _make_nsga2(num_samples: int, seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=population_size(num_samples))


@register_sampler("nsga3", "NSGA-III: the same with reference directions, for three objectives or more")
def _make_nsga3(num_samples: int, seed: int) -> BaseSampler:
    return NSGAIIISampler(seed=seed, population_size=population_size(num_samples))
