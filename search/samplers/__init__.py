"""What proposes the next configuration: Optuna's samplers, and ours for what Optuna has none for.

All of them can be pickled at any moment. What they have learned lies in the study's trials and attributes, so
that one that is unpickled onto a rebuilt study goes on exactly as it would have. A trial's parameters must be
drawn before the next trial is asked for.
"""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from search.samplers.ehvi import HypervolumeSampler
from search.samplers.evolution import EvolutionSampler
from search.samplers.gp import GaussianProcessSampler
from search.samplers.grid import GridSampler
from search.samplers.sobol import SobolSampler
from spaces.grid import POINTS
from trainables.errors import unknown

#: What there is, one line each.
SAMPLERS = {
    "ehvi": "expected hypervolume improvement: memory is exact, every epoch of every trial is learnt from",
    "tpe": "tree-structured Parzen estimators: all objectives learnt from trials that ended",
    "nsga2": "NSGA-II: a genetic algorithm with crowding distance; needs a few generations",
    "nsga3": "NSGA-III: the same with reference directions, for three objectives or more",
    "gp": "Gaussian processes: fewest trials, a second or so each; conditional parameters at random",
    "qmc": "scrambled Sobol points: spread more evenly than random ones",
    "random": "random points",
    "grid": f"every point of a grid of {POINTS} values a range once, in random order",
    "evolution": "mutation and crossover of the front's configurations, gene by gene",
}


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
    startup = max(4, min(10, num_samples // 4))
    population = max(4, min(50, num_samples // 4))
    with warnings.catch_warnings():
        # NSGA-III is called experimental since Optuna 3.2, the groups of TPE since 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(
                    seed=seed,
                    multivariate=True,
                    group=True,  # parameters that depend on another one's value are modelled together too
                    n_startup_trials=startup,
                )
            case "ehvi":
                return HypervolumeSampler(4, seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=population)
            case "nsga3":
                return NSGAIIISampler(seed=seed, population_size=population)
            case "gp":
                return GaussianProcessSampler(
                    seed=seed, n_startup_trials=startup, warn_independent_sampling=False
                )
            case "qmc":
                return SobolSampler(seed)
            case "random":
                return RandomSampler(seed=seed)
            case "grid":
                return GridSampler(seed)
            case "evolution":
                return EvolutionSampler(2 * startup, seed)
    raise unknown("sampler", name, SAMPLERS)
