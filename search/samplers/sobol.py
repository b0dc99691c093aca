"""A sampler whose points cover a space evenly."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.common import DefineByRun, parameter_of
from search.samplers.registry import register_sampler


class SobolSampler(DefineByRun):
    """Proposes scrambled Sobol points (Owen 1998), also in conditional spaces.

    Trial n gets point n of one sequence, and its k-th parameter gets coordinate k. Parameters that exclude
    each other thus share a coordinate, and the points are spread evenly within each choice of a parameter,
    too. (Optuna's own sampler covers only the parameters of the first trial.)

    Args:
        seed: Random seed of the scrambling.
    """

    #: Coordinates of a point; further parameters reuse the first coordinates.
    DIMENSIONS = 64

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._point: tuple[int, list[float]] = (-1, [])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value at the trial's next coordinate."""
        if self._point[0] != trial.number:
            from scipy.stats import qmc

            engine = qmc.Sobol(self.DIMENSIONS, scramble=True, seed=self._seed)
            if trial.number:  # SciPy does not accept a step of 0
                engine.fast_forward(trial.number)
            self._point = (trial.number, engine.random(1)[0].tolist())
        share = self._point[1][len(trial.params) % self.DIMENSIONS]
        return parameter_of(param_distribution).at(share)


@register_sampler("qmc", "scrambled Sobol points: spread more evenly than random ones")
def _make(num_samples: int, seed: int) -> BaseSampler:
    return SobolSampler(seed)
