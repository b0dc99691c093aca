"""The registry of samplers by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler

from trainables.registry import Registry

#: Makes a sampler from the number of planned trials and a random seed.
MakeSampler = Callable[[int, int], BaseSampler]


@dataclass(frozen=True)
class SamplerSpec:
    """A registered sampler.

    Attributes:
        name: Name on the command line.
        description: One line for listings.
        make: Makes a sampler.
    """

    name: str
    description: str
    make: MakeSampler


SAMPLERS: Registry[SamplerSpec] = Registry("sampler")


def register_sampler(name: str, description: str) -> Callable[[MakeSampler], MakeSampler]:
    """Return a decorator that puts a sampler in the registry.

    It decorates a function that takes the number of planned trials and a random seed. Start-up trials and
    generations are a share of the planned trials: see ``startup_trials`` and ``population_size``.

    An interrupted search makes the sampler anew, for the same number and seed, and gives it back its random
    generators. These must be attributes of the sampler, or of samplers of Optuna inside it. A sampler that
    changes anything else with its proposals has the methods of ``KeepsState``.

    Args:
        name: Name on the command line.
        description: One line for listings.

    Raises:
        UserError: If another module has registered a sampler of that name.
    """

    def register(make: MakeSampler) -> MakeSampler:
        SAMPLERS.register(name, SamplerSpec(name, description, make), make.__module__)
        return make

    return register


def startup_trials(num_samples: int) -> int:
    """Return how many of the planned trials are random, before a sampler learns from results."""
    return max(4, min(10, num_samples // 4))


def population_size(num_samples: int) -> int:
    """Return the size of a generation, for a number of planned trials."""
    return max(4, min(50, num_samples // 4))
