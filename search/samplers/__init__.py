"""Samplers propose the next configuration: those of Optuna, and further ones that Optuna lacks.

Each sampler has a file here. Importing this package imports all of them, which fills the registry.

Every sampler can be pickled at any moment. What it has learned is in the study's trials and attributes, so an
unpickled sampler on a rebuilt study continues with the same proposals. All parameters of a trial must be
drawn before the next trial is asked for.
"""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from search.samplers.registry import SAMPLERS, SamplerSpec, register_sampler
from trainables.registry import import_modules
from trainables.seeds import short_seed

import_modules(__name__, __path__)

__all__ = ["SAMPLERS", "SamplerSpec", "make_sampler", "register_sampler"]


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
        UserError: If no sampler has that name; the message lists the names.
    """
    with warnings.catch_warnings():
        # Optuna calls NSGA-III and the groups of TPE experimental, since versions 3.2 and 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name].make(num_samples, short_seed(seed))
