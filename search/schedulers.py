"""Rules that decide which trials continue: successive halving over several objectives, and a median rule.

A *rule* is told every report of the trials, and decides at its milestones which trials continue. Decisions
depend only on the reports, not on their order, so a rule that is told all reports again decides as before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean, median
from typing import Protocol

import numpy as np

from search.goals.objectives import Objective
from search.goals.ranking import Ranking, spread
from trainables.errors import UserError, unknown

#: Rules by name.
SCHEDULERS = {
    "pareto_asha": "pause all but the best of each rung, by rank over all objectives; resume as rungs fill",
    "none": "train every trial for all epochs",
    "asha": "as pareto_asha, by the first objective that training decides alone",
    "median": "stop what is worse than the median of others, in the first objective that training decides",
}

#: Least reduction factor; with a smaller one, nearly every trial would continue at every rung.
MIN_REDUCTION_FACTOR = 1.1

#: Least number of other trials with which the median rule compares a trial.
MIN_OTHERS = 3

Losses = tuple[float, ...]


class Rule(Protocol):
    """Decides which trials continue.

    Attributes:
        milestones: Epochs at which trials are compared, all before the last one.
        pauses: Whether a trial that does not continue is paused and may be promoted later. Otherwise it is
            stopped.
    """

    milestones: tuple[int, ...]
    pauses: bool

    def note(self, trial: str, epoch: int, losses: Losses) -> None:
        """Note a trial's losses after an epoch; the same report twice changes nothing.

        Args:
            trial: The trial's id.
            epoch: The epoch, counted from 1.
            losses: One loss for each objective; less is better.
        """

    def goes_on(self, trial: str, epoch: int) -> bool:
        """Return whether a trial whose ``epoch`` was just noted continues without a pause."""

    def promote(self, waiting: Mapping[str, int]) -> str | None:
        """Return the paused trial to resume next, or None if none is good enough so far.

        Args:
            waiting: The milestone at which each paused trial was paused, by the trial's id.
        """


def make_rule(
    name: str,
    objectives: Sequence[Objective],
    epochs: int,
    reduction_factor: float,
    min_epochs: int,
    guessing: Mapping[str, float] | None = None,
) -> Rule:
    """Return a rule by its name.

    Args:
        name: A name in ``SCHEDULERS``.
        objectives: The objectives of the losses, in their order.
        epochs: Epochs of a complete trial.
        reduction_factor: Number above 1, not necessarily whole: one in this many trials continues at each
            rung.
        min_epochs: The first rung, or the first epoch at which the median rule compares.
        guessing: Values that a trial reaches without having learnt anything, for objectives that have such
            a value, e.g. ``{"accuracy": 0.1}`` for ten equally large classes. See ``ParetoASHA``.

    Raises:
        UserError: If a value is out of range, or if training decides none of the objectives.
    """
    if name not in SCHEDULERS:
        raise unknown("scheduler", name, SCHEDULERS)
    if not (math.isfinite(reduction_factor) and reduction_factor >= MIN_REDUCTION_FACTOR):
        raise UserError(
            f"--reduction-factor {reduction_factor:g}: give a number from {MIN_REDUCTION_FACTOR:g} on, e.g. 3"
        )
    if not 1 <= min_epochs <= epochs:
        raise UserError(f"--min-epochs {min_epochs}: give a number from 1 to the {epochs} epochs of a trial")
    if name == "none":  # halving without milestones lets every trial continue
        return ParetoASHA(objectives, (), reduction_factor)
    trained = [i for i, objective in enumerate(objectives) if not objective.known]
    if not trained:
        names = ",".join(objective.name for objective in objectives)
        raise UserError(
            f"--scheduler {name}: all of --objectives {names} are known before training, so there is nothing "
            "to compare on the way; add another objective, e.g. accuracy, or give --scheduler none"
        )
    if name == "median":
        return MedianRule(trained[0], tuple(range(min_epochs, epochs)))
    compared = trained[:1] if name == "asha" else None
    return ParetoASHA(
        objectives, rungs(epochs, reduction_factor, min_epochs), reduction_factor, guessing, compared
    )


def rungs(epochs: int, reduction_factor: float, min_epochs: int) -> tuple[int, ...]:
    """Return the distinct values below ``epochs`` of min_epochs * reduction_factor**k, rounded half up.

    >>> rungs(27, 3, 1)
    (1, 3, 9)
    """
    found, level = [], float(min_epochs)
    while (epoch := math.floor(level + 0.5)) < epochs:
        found.append(epoch)
        level *= reduction_factor
    return tuple(dict.fromkeys(found))


class ParetoASHA:
    """Asynchronous successive halving over several objectives, which pauses and promotes trials.

    The trials that reached a milestone are its *rung*. Of n trials in a rung, the best floor(n / reduction
    factor) continue, and in any case all trials on the rung's front. The best trials are found by rank. In
    the rank at which the places run out, an epsilon-net chooses, so that all parts of the trade-off are
    represented. A trial that is not among the best is paused, and resumes once the rung has enough trials.

    Members of the front take places first; members beyond the places continue in addition. If the front took
    no places, as many other trials would continue as well, and little would be saved.

    The cheapest configurations are on every front, however bad they are, because their memory is known. They
    must not displace the others. A trial that does not beat guessing in any objective with such a value
    therefore ranks behind all trials that do: it counts as a member of the front only if no trial beats
    guessing, and otherwise gets only places that are left. The epsilon-net starts with the trial that is best
    in the first objective that training decides.

    A trial with a value that is infinite or not a number never continues, but it counts among the n.

    Source: Li et al., A system for massively parallel hyperparameter tuning (2020), Algorithm 2; Schmucker
    et al., Multi-objective asynchronous successive halving (2021), arXiv:2106.12639.

    Args:
        objectives: The objectives of the losses, in their order.
        milestones: Epochs of the rungs, in rising order.
        reduction_factor: Number above 1; see ``make_rule``.
        guessing: See ``make_rule``.
        compared: Indices of the objectives that are compared; by default all.
        by: A name in ``search.goals.ranking.SPREADS``.
    """

    pauses = True

    def __init__(
        self,
        objectives: Sequence[Objective],
        milestones: tuple[int, ...],
        reduction_factor: float,
        guessing: Mapping[str, float] | None = None,
        compared: Sequence[int] | None = None,
        by: str = "epsilon_net",
    ) -> None:
        self.milestones = milestones
        columns = range(len(objectives)) if compared is None else compared
        self._columns = sorted(columns, key=lambda i: objectives[i].known)
        self._floors = [
            (i, objectives[i].loss(guessing[objectives[i].name]))
            for i in self._columns
            if guessing and objectives[i].name in guessing and not objectives[i].known
        ]
        self._rungs = {epoch: _Rung(len(self._columns), reduction_factor, by) for epoch in milestones}

    def note(self, trial: str, epoch: int, losses: Losses) -> None:
        """Note a trial's losses at a rung; other epochs are ignored."""
        if epoch in self._rungs:
            learnt = not self._floors or any(losses[i] < floor for i, floor in self._floors)
            self._rungs[epoch].add(trial, tuple(losses[i] for i in self._columns), learnt)

    def goes_on(self, trial: str, epoch: int) -> bool:
        """Return whether a trial is among the best of a rung, or on its front."""
        return epoch not in self._rungs or trial in self._rungs[epoch].best()

    def promote(self, waiting: Mapping[str, int]) -> str | None:
        """Return the best paused trial that may continue, from the highest rung that has one."""
        for epoch in reversed(self.milestones):
            rung = self._rungs[epoch]
            candidates = rung.best().intersection(trial for trial, at in waiting.items() if at == epoch)
            if candidates:
                return rung.first(candidates)
        return None


class _Rung:
    """The trials that reached a milestone."""

    def __init__(self, dimensions: int, factor: float, by: str) -> None:
        self._factor = factor
        self._trials: set[str] = set()
        self._learnt, self._guessing = _Group(dimensions, by), _Group(dimensions, by)
        self._best: frozenset[str] | None = None

    def add(self, trial: str, losses: Losses, learnt: bool) -> None:
        """Add a trial, unless the rung has it."""
        if trial in self._trials:
            return
        self._trials.add(trial)
        self._best = None
        if all(map(math.isfinite, losses)):
            (self._learnt if learnt else self._guessing).add(trial, losses)

    def best(self) -> frozenset[str]:
        """Return the trials that may continue."""
        if self._best is None:
            places = math.floor(len(self._trials) / self._factor + 1e-9)  # 33 / 1.1 is just below 30
            if self._learnt:
                best = self._learnt.best(places, ranks=1)
                best += self._guessing.best(places - len(best), ranks=0)
            else:
                best = self._guessing.best(places, ranks=1)
            self._best = frozenset(best)
        return self._best

    def first(self, candidates: frozenset[str]) -> str | None:
        """Return the first of the given trials, which must be among the best."""
        return self._learnt.first(candidates) or self._guessing.first(candidates)


class _Group:
    """Trials that are ranked among themselves."""

    def __init__(self, dimensions: int, by: str) -> None:
        self._by = by
        self._names: list[str] = []
        self._ranking = Ranking(dimensions)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, trial: str, losses: Losses) -> None:
        """Add a trial."""
        self._names.append(trial)
        self._ranking.add(losses)

    def best(self, places: int, *, ranks: int) -> list[str]:
        """Return the ``places`` best trials, or all trials of the first ``ranks`` ranks if these are more."""
        sizes = np.bincount(self._ranking.ranks).cumsum()
        whole = max(ranks, int(np.searchsorted(sizes, places, side="right")))
        best = [self._names[i] for i in np.flatnonzero(self._ranking.ranks < whole)]
        if len(best) < min(places, len(self)):
            best += islice(self._spread(whole), places - len(best))
        return best

    def first(self, candidates: frozenset[str]) -> str | None:
        """Return the first of the candidates that belong to this group, or None."""
        ranked = zip(self._names, self._ranking.ranks.tolist(), strict=True)
        ranks = {trial: rank for trial, rank in ranked if trial in candidates}
        if not ranks:
            return None
        best = min(ranks.values())
        found = {trial for trial, rank in ranks.items() if rank == best}
        return found.pop() if len(found) == 1 else next(t for t in self._spread(best) if t in found)

    def _spread(self, rank: int) -> Iterator[str]:
        """Yield the trials of a rank, best first; equal ones by name, since their arrival must not matter."""
        points = self._ranking.points
        layer = np.flatnonzero(self._ranking.ranks == rank)
        ordered = sorted(layer.tolist(), key=lambda i: (*points[i].tolist(), self._names[i]))
        for i in spread(points[ordered], points, by=self._by):
            yield self._names[ordered[i]]


class MedianRule:
    """Stops a trial whose best loss is worse than the median of the other trials' running averages.

    A trial stops after an epoch if its smallest loss is above the median of the others' average losses up to
    that epoch. At least three other trials must have reached the epoch; stopped trials count among them. A
    loss that is infinite or not a number counts as the worst.

    Source: Golovin et al., Google Vizier: a service for black-box optimization (2017), Section 3.2.1.

    Args:
        column: Index of the objective that is compared.
        milestones: Epochs after which trials may be stopped.
    """

    pauses = False

    def __init__(self, column: int, milestones: tuple[int, ...]) -> None:
        self.milestones = milestones
        self._column = column
        self._curves: dict[str, dict[int, float]] = {}
        self._averages: dict[int, dict[str, float]] = {}

    def note(self, trial: str, epoch: int, losses: Losses) -> None:
        """Note a trial's losses; every epoch counts."""
        curve = self._curves.setdefault(trial, {})
        if epoch in curve:
            return
        curve[epoch] = losses[self._column] if math.isfinite(losses[self._column]) else math.inf
        for later in (later for later in curve if later >= epoch):
            self._averages.setdefault(later, {})[trial] = fmean(_up_to(curve, later))

    def goes_on(self, trial: str, epoch: int) -> bool:
        """Return whether a trial's best loss is no worse than the median of the others' averages."""
        if epoch not in self.milestones:
            return True
        others = [average for other, average in self._averages[epoch].items() if other != trial]
        return len(others) < MIN_OTHERS or min(_up_to(self._curves[trial], epoch)) <= median(others)

    def promote(self, waiting: Mapping[str, int]) -> str | None:
        """Return None: a stopped trial is never resumed."""
        return None


def _up_to(curve: Mapping[int, float], epoch: int) -> list[float]:
    """Return a curve's losses up to an epoch, in the order of epochs."""
    return [curve[e] for e in sorted(curve) if e <= epoch]
