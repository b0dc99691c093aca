"""A sampler that proposes every point of a grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.common import DefineByRun, asked_before, parameter_of
from search.samplers.registry import register_sampler
from spaces.grid import POINTS


class GridSampler(DefineByRun):
    """Proposes every point of a grid once, in random order, and random points after that.

    The grid is that of ``spaces.grid.on_grid``: all choices, and a few values of every range. It grows as
    parameters are met, so conditional parameters are supported. Every branch that is not exhausted has the
    same probability, whatever its size: a search that ends early has seen as much of each method. A trial
    that is not on the grid, such as one of a space's first points, counts for the nearest point.

    (Optuna's ``BruteForceSampler`` needs ranges with steps, and stops the study when it is done.)

    Args:
        seed: Random seed.
        points: Most values of a range.
    """

    def __init__(self, seed: int, points: int = POINTS) -> None:
        self._rng = np.random.default_rng(seed)
        self._points = points
        self._tree = _Branch()
        self._noted = 0

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value whose branch has points left, or any value if no branch has."""
        asked = asked_before(study, trial)
        for other in asked[self._noted :]:
            self._note(other)
        self._noted = len(asked)
        branch: _Branch | None = self._tree
        for name, value in trial.params.items():
            if branch is not None:
                index = parameter_of(trial.distributions[name]).nearest(value, self._points)
                branch = branch.below.get(index) if branch.name == name else None
        values = parameter_of(param_distribution).grid(self._points)
        known = branch is not None and branch.name == param_name and branch.left
        left = branch.left if branch is not None and known else range(len(values))
        return values[left[self._rng.integers(len(left))]]

    def _note(self, trial: FrozenTrial) -> None:
        """Remove a trial's point from the tree, and each branch whose last point it was."""
        params = dict(trial.params)
        branch, path = self._tree, []
        while params:
            if branch.name is None:
                branch.name = next(iter(params))
                asked = parameter_of(trial.distributions[branch.name])
                branch.left = list(range(len(asked.grid(self._points))))
            if branch.name not in params:
                return  # the space has changed since
            asked = parameter_of(trial.distributions[branch.name])
            index = asked.nearest(params.pop(branch.name), self._points)
            if index not in branch.left:
                return
            path.append((branch, index))
            branch = branch.below.setdefault(index, _Branch())
        for branch, index in reversed(path):
            branch.left.remove(index)
            del branch.below[index]
            if branch.left:
                break


@dataclass
class _Branch:
    """The part of a grid that follows some chosen values.

    Attributes:
        name: The parameter that is asked for next; None until it is known.
        left: Indices of the parameter's values that have points left.
        below: The branches of its values, by index, that were met and are not exhausted.
    """

    name: str | None = None
    left: list[int] = field(default_factory=list)
    below: dict[int, _Branch] = field(default_factory=dict)


@register_sampler("grid", f"every point of a grid of {POINTS} values a range once, in random order")
def _make(num_samples: int, seed: int) -> BaseSampler:
    return GridSampler(seed)
