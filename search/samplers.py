"""What proposes the next configuration: Optuna's samplers, and ours for what Optuna has none for.

All of them can be pickled at any moment. What they have learned lies in the study's trials and attributes, so
that one that is unpickled onto a rebuilt study goes on exactly as it would have. A trial's parameters must be
drawn before the next trial is asked for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from search.pareto import Front, ranks
from spaces.grid import POINTS, grid_values, nearest
from trainables.errors import unknown

#: What there is, one line each.
SAMPLERS = {
    "tpe": "tree-structured Parzen estimators: learns from the first few trials on",
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
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=population)
            case "nsga3":
                return NSGAIIISampler(seed=seed, population_size=population)
            case "gp":
                return _GaussianProcesses(
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


class _GaussianProcesses(GPSampler):
    """Optuna's sampler, which spares itself seconds of work where it is of no use.

    Its best proposal may be a configuration that was tried before. The answer changes little in the model:
    the next proposal would be the same, and the one after that. So the one after a trial that taught nothing
    is random. And a trial whose values are given, as those of the first points are, gets no proposal at all.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters to model."""
        space = super().infer_relative_search_space(study, trial)
        given = "fixed_params" in trial.system_attrs
        return {} if given or _barren(_asked_before(study, trial), limit=1) else space


class _DefineByRun(BaseSampler):
    """A sampler that decides parameter by parameter, in the order in which a space asks."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return that no parameters are decided together beforehand."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values: there are no parameters to decide beforehand."""
        return {}


class SobolSampler(_DefineByRun):
    """Scrambled Sobol points (Owen 1998), for conditional spaces too.

    Trial n has point n of one sequence, and the parameter that it asks for as its k-th has coordinate k:
    parameters that exclude each other share a coordinate. Within one choice of a parameter, points are still
    spread evenly. (Optuna's own sampler gives points to the parameters of the first trial only.)

    Args:
        seed: Random seed of the scrambling.
    """

    #: Coordinates of a point; a parameter after that many has an earlier one's.
    DIMENSIONS = 64

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._point: tuple[int, list[float]] = (-1, [])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value at the trial's next coordinate."""
        if self._point[0] != trial.number:
            engine = qmc.Sobol(self.DIMENSIONS, scramble=True, seed=self._seed)
            if trial.number:  # SciPy takes no step of 0
                engine.fast_forward(trial.number)
            self._point = (trial.number, engine.random(1)[0].tolist())
        share = self._point[1][len(trial.params) % self.DIMENSIONS]
        return _value_at(share, param_distribution)


class GridSampler(_DefineByRun):
    """Every point of a grid once, in random order; random points after that.

    The grid is that of ``spaces.grid.on_grid``: all choices, and a few values of every range. It grows as
    parameters are met, so conditional ones are fine. Every branch that is not exhausted has the same chance,
    whatever its size: a search that ends early has seen as much of each method. Trials that are not on the
    grid, such as a space's first points, count for the nearest point.

    (Optuna's ``BruteForceSampler`` takes no ranges without steps, and stops the study when it is done.)

    Args:
        seed: Random seed.
        points: The most values of a range.
    """

    def __init__(self, seed: int, points: int = POINTS) -> None:
        self._rng = np.random.default_rng(seed)
        self._points = points
        self._tree = _Branch()
        self._noted = 0

    def __getstate__(self) -> dict[str, Any]:
        """Pickle no tree: it is made anew from the study's trials."""
        return {**self.__dict__, "_tree": _Branch(), "_noted": 0}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value below which not all points of the grid were taken, any one if there is none."""
        asked = _asked_before(study, trial)
        for other in asked[self._noted :]:
            self._note(other)
        self._noted = len(asked)
        branch: _Branch | None = self._tree
        for name, value in trial.params.items():
            if branch is not None:
                index = self._index(value, trial.distributions[name])
                branch = branch.below.get(index) if branch.name == name else None
        values = self._values(param_distribution)
        known = branch is not None and branch.name == param_name and branch.left
        left = branch.left if branch is not None and known else range(len(values))
        return values[left[self._rng.integers(len(left))]]

    def _note(self, trial: FrozenTrial) -> None:
        """Take a trial's point from the tree, and the branches that it was the last point of."""
        params = dict(trial.params)
        branch, path = self._tree, []
        while params:
            if branch.name is None:
                branch.name = next(iter(params))
                branch.left = list(range(len(self._values(trial.distributions[branch.name]))))
            if branch.name not in params:
                return  # the space is not the same function any more
            index = self._index(params.pop(branch.name), trial.distributions[branch.name])
            if index not in branch.left:
                return
            path.append((branch, index))
            branch = branch.below.setdefault(index, _Branch())
        for branch, index in reversed(path):
            branch.left.remove(index)
            del branch.below[index]
            if branch.left:
                break

    def _values(self, distribution: BaseDistribution) -> Sequence[Any]:
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices
        d = _numeric(distribution)
        return grid_values(d.low, d.high, d.step, d.log, self._points)

    def _index(self, value: Any, distribution: BaseDistribution) -> int:
        values = self._values(distribution)
        if isinstance(distribution, CategoricalDistribution):
            return values.index(value)
        return nearest(value, values, _numeric(distribution).log)


@dataclass
class _Branch:
    """The part of a grid below some values.

    Attributes:
        name: The parameter asked for next, once known.
        left: Indices of its values below which points are left.
        below: The parts below its values, as far as met and not exhausted.
    """

    name: str | None = None
    left: list[int] = field(default_factory=list)
    below: dict[int, _Branch] = field(default_factory=dict)


class EvolutionSampler(_DefineByRun):
    """Evolution of configurations, gene by gene, for spaces of choices and numbers, conditional ones too.

    After some random trials, parents are drawn from the current front; while that is small, the best of the
    recent trials join it, so that old ones die out (Real et al. 2019, Algorithm 1). Half of the children have
    each gene from either of two parents, half are one parent with some genes changed, one at least (Chen et
    al. 2021, AutoFormer). A gene that no parent has is drawn at random.

    No child is ever drawn twice over to find a new one. Instead, trials in a row that brought nothing new
    make mutations more frequent, until half of the genes change.

    Args:
        startup: Trials drawn at random at first.
        seed: Random seed.
    """

    #: The chance of a gene to change (AutoFormer: 0.2 for the depth, 0.4 for the rest).
    MUTATION = 0.2
    #: The same after many trials that taught nothing. More would tie a child to its parents' opposites.
    MOST_MUTATION = 0.5
    #: The fewest parents to draw from, where there are as many.
    PARENTS = 8
    #: The trials before, of which the best fill up the parents.
    RECENT = 40
    #: How far a number moves to a neighbour at most: a share of its range, on the range's scale.
    NEIGHBOURHOOD = 0.1

    def __init__(self, startup: int, seed: int) -> None:
        self._startup = startup
        self._random = RandomSampler(seed=seed)
        self._rng = np.random.default_rng(seed)
        self._results = _Results()
        self._plan = _Plan(-1)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle no results: they are read anew from the study's trials."""
        return {**self.__dict__, "_results": _Results()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a gene: a parent's, changed or not, or a random one."""
        if self._plan.number != trial.number:
            self._plan = self._planned(study, trial)
        plan = self._plan
        genes = [parent[param_name] for parent in plan.parents if param_name in parent]
        genes = [gene for gene in genes if _holds(param_distribution, gene)]
        if not genes:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        gene = genes[self._rng.integers(len(genes))]
        if param_distribution.single():
            return gene
        if param_name != plan.changing and self._rng.random() >= plan.mutation:
            return gene
        if isinstance(param_distribution, CategoricalDistribution):
            others = [choice for choice in param_distribution.choices if choice != gene]
            return others[self._rng.integers(len(others))]
        if self._rng.random() < 0.5:
            drawn = self._random.sample_independent(study, trial, param_name, param_distribution)
            if drawn != gene:
                return drawn
        return self._moved(gene, _numeric(param_distribution))

    def _planned(self, study: Study, trial: FrozenTrial) -> _Plan:
        """Choose a trial's parents."""
        asked = _asked_before(study, trial)
        self._results.read(asked, study.directions)
        pool = self._results.parents(self.PARENTS, self.RECENT)
        if len(asked) < self._startup or not pool:
            return _Plan(trial.number)
        barren = _barren(asked, limit=math.ceil(self.MOST_MUTATION / self.MUTATION))
        mutation = min(self.MUTATION * max(1, barren), self.MOST_MUTATION)
        parent = pool[self._rng.integers(len(pool))]
        # From parents that differ in fewer genes comes nothing but one of them.
        mates = [other.params for other in pool if _differences(parent.params, other.params) >= 2]
        if mates and self._rng.random() < 0.5:
            mate = mates[self._rng.integers(len(mates))]
            return _Plan(trial.number, (parent.params, mate), mutation if barren > 1 else 0.0)
        genes = [name for name, distribution in parent.distributions.items() if not distribution.single()]
        changing = genes[self._rng.integers(len(genes))] if genes else None
        return _Plan(trial.number, (parent.params,), mutation, changing)

    def _moved(self, value: float, distribution: IntDistribution | FloatDistribution) -> float:
        """Return a value near another one, and never that one, unless rounding makes it so."""
        low, high, step = distribution.low, distribution.high, distribution.step
        up = value < high and (value <= low or self._rng.random() < 0.5)
        share = self._rng.uniform(0, self.NEIGHBOURHOOD) * (1 if up else -1)
        moved = value * (high / low) ** share if distribution.log else value + (high - low) * share
        if step is None:
            return min(max(moved, low), high)
        steps = round((moved - low) / step)
        here = round((value - low) / step)
        if steps == here:
            steps += 1 if up else -1
        return low + min(max(steps, 0), round((high - low) / step)) * step


@dataclass(frozen=True)
class _Plan:
    """How a child comes about.

    Attributes:
        number: The trial's number.
        parents: The parents' genes: two to cross, one to mutate, none for a random trial.
        mutation: The chance of a gene to change.
        changing: The gene that changes in any case.
    """

    number: int
    parents: tuple[dict[str, Any], ...] = ()
    mutation: float = 0.0
    changing: str | None = None


@dataclass(frozen=True, eq=False)
class _Result:
    """A complete trial: its number, genes, losses, and by how much it violates constraints."""

    number: int
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    losses: tuple[float, ...]
    violation: float


class _Results:
    """The complete trials of a study and their front, kept up as trials finish, in whatever order they do."""

    def __init__(self) -> None:
        self._seen: list[FrozenTrial] = []
        self._all: dict[int, _Result] = {}
        self._front: Front[int] = Front()

    def read(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        """Take in what finished since the last time, or finished anew: a paused trial may have gone on."""
        news = [t for n, t in enumerate(trials) if n >= len(self._seen) or self._seen[n] is not t]
        self._seen = list(trials)
        for trial in news:
            number = trial.number
            if trial.state is not TrialState.COMPLETE:
                continue
            losses = tuple(
                value if direction is StudyDirection.MINIMIZE else -value
                for value, direction in zip(trial.values, directions, strict=True)
            )
            violation = sum(value for value in trial.constraints.values() if value > 0)
            self._all[number] = _Result(number, trial.params, trial.distributions, losses, violation)
            if not violation:
                self._front.add(number, losses)

    def parents(self, wanted: int, recent: int) -> list[_Result]:
        """Return the front, and if it is small, the next best of so many recent trials; none twice.

        Args:
            wanted: How many to return at least, if there are as many.
            recent: How many trials, beside the front's, to choose them from.
        """
        known: set[frozenset[tuple[str, Any]]] = set()
        pool = list(self._new(sorted(self._front.keys), known))
        if len(pool) >= wanted:
            return pool
        rest = list(islice(self._new(sorted(self._all, reverse=True), known), recent))
        feasible = [result for result in rest if not result.violation]
        rank = dict(zip(feasible, ranks([result.losses for result in feasible]), strict=True))
        feasible.sort(key=lambda result: rank[result])
        infeasible = sorted((r for r in rest if r.violation), key=lambda result: result.violation)
        return pool + [*feasible, *infeasible][: wanted - len(pool)]

    def _new(self, numbers: Iterable[int], known: set[frozenset[tuple[str, Any]]]) -> Iterator[_Result]:
        """Yield the results whose genes are not known yet."""
        for number in numbers:
            result = self._all[number]
            genes = frozenset(result.params.items())
            if genes not in known:
                known.add(genes)
                yield result


def _asked_before(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials with lower numbers: those asked for before, as waiting ones are asked for first."""
    return study.get_trials(deepcopy=False)[: trial.number]


def _barren(trials: Sequence[FrozenTrial], limit: int) -> int:
    """Return how many of the last trials, up to a limit, taught nothing: failed, or repeated another."""
    for barren, trial in enumerate(reversed(trials)):
        earlier = trials[: trial.number]
        if barren == limit or not (trial.state is TrialState.FAIL or _repeats(trial, earlier)):
            return barren
    return len(trials)


def _repeats(trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
    """Whether a trial has an earlier one's values and parameters, but for floats: those may be rounded."""
    if trial.state is not TrialState.COMPLETE:
        return False
    exact = {
        name: trial.params[name]
        for name, distribution in trial.distributions.items()
        if not isinstance(distribution, FloatDistribution)
    }
    return any(
        trial.values == other.values and exact.items() <= other.params.items()
        for other in earlier
        if other.state is TrialState.COMPLETE
    )


def _differences(mine: dict[str, Any], other: dict[str, Any]) -> int:
    """Return in how many of their common genes two parents differ."""
    return sum(name in other and other[name] != gene for name, gene in mine.items())


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a range, which may depend on other parameters, holds a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    d = _numeric(distribution)
    return d.low <= value <= d.high


def _value_at(share: float, distribution: BaseDistribution) -> Any:
    """Return the value at some share of a range, in [0, 1); every choice and step has an equal part."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    d = _numeric(distribution)
    if d.step is None:
        return min(d.low * (d.high / d.low) ** share if d.log else d.low + (d.high - d.low) * share, d.high)
    if d.log:  # only whole numbers have a step and a log scale; each has its part of that scale
        return min(max(round((d.low - 0.5) * ((d.high + 0.5) / (d.low - 0.5)) ** share), d.low), d.high)
    return d.low + int(share * (round((d.high - d.low) / d.step) + 1)) * d.step


def _numeric(distribution: BaseDistribution) -> IntDistribution | FloatDistribution:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution
