"""Evolution, with members of the current front as parents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.goals.pareto import Front
from search.goals.ranking import ranks
from search.samplers.common import DefineByRun, asked_before, barren, parameter_of
from search.samplers.registry import register_sampler, startup_trials
from trainables.parameters import Choices, Range


class EvolutionSampler(DefineByRun):
    """Evolution of configurations, in which each parameter is a gene; the space may be conditional.

    After some random trials, parents are drawn from the current front. While the front is small, the best of
    the recent trials join it, so that old ones die out (Real et al. 2019, Algorithm 1). Half of the children
    take each gene from one of two parents. The other half are one parent with at least one gene changed (Chen
    et al. 2021, AutoFormer). A gene that no parent has is drawn at random.

    A child that repeats an earlier trial is not drawn again. Instead, mutations become more frequent after
    several trials in a row without a new result, until half of the genes change.

    Args:
        startup: Number of random trials at the start.
        seed: Random seed.
        keep_first: Whether a child keeps one parent's first genes, up to a random one, unchanged. Anything
            that depends only on these genes is then equal for both.
    """

    #: Probability that a gene changes (AutoFormer: 0.2 for the depth, 0.4 for the rest).
    MUTATION = 0.2
    #: Probability after many trials without a new result. Above 0.5, children would resemble their parents'
    #: opposites.
    MOST_MUTATION = 0.5
    #: Least number of parents to draw from, if there are as many.
    PARENTS = 8
    #: Number of recent trials, of which the best fill up the parents.
    RECENT = 40
    #: Largest move of a number to a neighbour: a share of its range, on the range's scale.
    NEIGHBOURHOOD = 0.1

    def __init__(self, startup: int, seed: int, *, keep_first: bool = False) -> None:
        self._startup = startup
        self._keep_first = keep_first
        self._random = RandomSampler(seed=seed)
        self._rng = np.random.default_rng(seed)
        self._results = _Results()
        self._plan = _Plan(-1)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a gene: that of a parent, possibly changed, or a random one."""
        if self._plan.number != trial.number:
            self._plan = self._planned(study, trial)
        plan, parameter = self._plan, parameter_of(param_distribution)
        if len(trial.params) < plan.kept:
            gene = plan.parents[0].get(param_name)
            if gene is not None and parameter.holds(gene):
                return gene
        genes = [parent[param_name] for parent in plan.parents if param_name in parent]
        genes = [gene for gene in genes if parameter.holds(gene)]
        if not genes:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        gene = genes[self._rng.integers(len(genes))]
        if param_distribution.single():
            return gene
        if param_name != plan.changing and self._rng.random() >= plan.mutation:
            return gene
        if isinstance(parameter, Choices):
            others = [choice for choice in parameter if choice != gene]
            return others[self._rng.integers(len(others))]
        if self._rng.random() < 0.5:
            drawn = self._random.sample_independent(study, trial, param_name, param_distribution)
            if drawn != gene:
                return drawn
        return self._moved(gene, parameter)

    def _planned(self, study: Study, trial: FrozenTrial) -> _Plan:
        """Choose a trial's parents."""
        asked = asked_before(study, trial)
        self._results.read(asked, study.directions)
        pool = self._results.parents(self.PARENTS, self.RECENT)
        if len(asked) < self._startup or not pool:
            return _Plan(trial.number)
        streak = barren(asked, limit=math.ceil(self.MOST_MUTATION / self.MUTATION))
        mutation = min(self.MUTATION * max(1, streak), self.MOST_MUTATION)
        parent = pool[self._rng.integers(len(pool))]
        kept = int(self._rng.integers(len(parent.params))) if self._keep_first and parent.params else 0
        # A child of two parents that differ in only one gene would equal one of them.
        mates = [other.params for other in pool if _differences(parent.params, other.params) >= 2]
        if mates and self._rng.random() < 0.5:
            mate = mates[self._rng.integers(len(mates))]
            return _Plan(trial.number, (parent.params, mate), mutation if streak > 1 else 0.0, kept=kept)
        names = list(parent.params)
        genes = [name for name in names[kept:] if not parent.distributions[name].single()]
        changing = genes[self._rng.integers(len(genes))] if genes else None
        return _Plan(trial.number, (parent.params,), mutation, changing, kept)

    def _moved(self, value: float, within: Range) -> float:
        """Return a value near another one; it differs unless rounding makes both equal."""
        low, high, step = within.low, within.high, within.step
        up = value < high and (value <= low or self._rng.random() < 0.5)
        share = self._rng.uniform(0, self.NEIGHBOURHOOD) * (1 if up else -1)
        moved = value * (high / low) ** share if within.log else value + (high - low) * share
        if step is None:
            return min(max(moved, low), high)
        steps = round((moved - low) / step)
        here = round((value - low) / step)
        if steps == here:
            steps += 1 if up else -1
        return low + min(max(steps, 0), round((high - low) / step)) * step


@dataclass(frozen=True)
class _Plan:
    """How a child is made.

    Attributes:
        number: The trial's number.
        parents: The parents' genes: two to cross, one to mutate, none for a random trial.
        mutation: Probability that a gene changes.
        changing: A gene that always changes, or None.
        kept: Number of first genes that are kept from the first parent.
    """

    number: int
    parents: tuple[dict[str, Any], ...] = ()
    mutation: float = 0.0
    changing: str | None = None
    kept: int = 0


@dataclass(frozen=True, eq=False)
class _Result:
    """A complete trial: its number, genes, losses, and by how much it violates constraints."""

    number: int
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    losses: tuple[float, ...]
    violation: float


class _Results:
    """The complete trials of a study and their front, updated as trials finish in any order."""

    def __init__(self) -> None:
        self._seen: list[FrozenTrial] = []
        self._all: dict[int, _Result] = {}
        self._front: Front[int] = Front()

    def read(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        """Read the trials that finished since the last call, or finished again after a pause."""
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
        """Return the front, filled up with the best recent trials if it is small; genes occur only once.

        Args:
            wanted: Least number to return, if there are as many.
            recent: Number of recent trials, besides the front, from which the front is filled up.
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
        """Yield the results whose genes are not in ``known``, and add the genes to it."""
        for number in numbers:
            result = self._all[number]
            genes = frozenset(result.params.items())
            if genes not in known:
                known.add(genes)
                yield result


def _differences(mine: dict[str, Any], other: dict[str, Any]) -> int:
    """Return the number of common genes in which two parents differ."""
    return sum(name in other and other[name] != gene for name, gene in mine.items())


@register_sampler("evolution", "mutation and crossover of the front's configurations, gene by gene")
def _make(num_samples: int, seed: int) -> BaseSampler:
    return EvolutionSampler(2 * startup_trials(num_samples), seed)
