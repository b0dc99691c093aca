"""Samplers propose the next configuration: those of Optuna, and further ones that Optuna lacks.

Each sampler has a file here. Importing this package imports all of them, which fills the registry.

The state of every sampler can be read as JSON between any two proposals. What it has learned is in the
study's trials and attributes, so a new sampler with that state, on a rebuilt study, continues with the same
proposals. All parameters of a trial must be drawn before the next trial is asked for.
"""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from search.samplers.registry import SAMPLERS, SamplerSpec, register_sampler
from search.samplers.state import KeepsState, restore_state, state_of
from trainables.registry import import_modules
from trainables.seeds import short_seed

import_modules(__name__, __path__)

__all__ = [
    "SAMPLERS",
    "KeepsState",
    "SamplerSpec",
    "make_sampler",
    "register_sampler",
    "restore_state",
    "state_of",
]


def make_sampler(name: str, num_samples: int, seed: int) -> BaseSampler:
    """Return an Optuna sampler for any number of objectives.

    ``gp`` needs trials that all have the same constraints. ``gp``, ``nsga2`` and ``nsga3`` model only the
    parameters that all trials share; they draw parameters that depend on another one's value at random. The
    other samplers model all parameters.

    Args:
        name: One of ``SAMPLERS``.
        num_samples: Number of planned trials; start-up trials and generations are a share of it.
        seed: Seed of the search.

    Raises:
        UserError: If no sampler has that name; the message lists the names. If its state cannot be stored.
    """
    with warnings.catch_warnings():
        # Optuna calls NSGA-III and the groups of TPE experimental, since versions 3.2 and 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        made = SAMPLERS[name].make(num_samples, short_seed(seed))
    state_of(made)
    return made
