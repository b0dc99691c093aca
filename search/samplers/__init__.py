"""What proposes the next configuration: Optuna's samplers, and ours for what Optuna has none for.

Each has a file here; importing this package imports them all, which fills the registry.

All of them can be pickled at any moment. What they have learned lies in the study's trials and attributes, so
that one that is unpickled onto a rebuilt study goes on exactly as it would have. A trial's parameters must be
drawn before the next trial is asked for.
"""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from search.samplers.registry import SAMPLERS, SamplerSpec, register_sampler
from trainables.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["SAMPLERS", "SamplerSpec", "make_sampler", "register_sampler"]


def make_sampler(name: str, num_samples: int, seed: int) -> BaseSampler:
    """Return an Optuna sampler for any number of objectives.

    ``gp`` needs trials that all carry the same constraints. ``gp``, ``nsga2`` and ``nsga3`` model the
    parameters that all trials share and draw those that depend on another one's value at random; the others
    know all parameters.

    Args:
        name: One of ``SAMPLERS``.
        num_samples: Trials planned; start-up trials and generations are a share of them.
        seed: Random seed.

    Raises:
        UserError: If there is none of that name; the message lists those that exist.
    """
    with warnings.catch_warnings():
        # NSGA-III is called experimental since Optuna 3.2, the groups of TPE since 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name].make(num_samples, seed)
