"""What the kept outputs of trials tell about luck: which results are sure, and which may be chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from statistics import fmean, stdev
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.goals.luck import (
    RESAMPLES,
    RESCORED,
    Difference,
    Luck,
    chance_better,
    chances_on_front,
    over_seeds,
    own_noise,
    paired_difference,
    pooled_spread,
    strongest_rivals,
)
from search.goals.objectives import Objective
from search.goals.pareto import Array
from search.goals.resampling import resampled
from search.records.history import History, TrialRecord
from search.records.outputs import KeptOutputs
from search.records.status import Status
from trainables.errors import UserError
from trainables.seeds import derive_seed
from trainables.tasks import Task
from trainables.trial.outputs import kept_rows

#: A configuration is out of the front's reach, and not resampled, if a member that costs no more is better by
#: more than this many standard errors, as if both were independent, and meets all constraints for sure.
REACH = 4.0
#: What is computed of all trials.
_Answer = TypeVar("_Answer")
#: Trials whose rows are in memory at once.
_AT_ONCE = 200


@dataclass(frozen=True)
class _Contest:
    """What may be on the front, with the arguments of ``chances_on_front``."""

    candidates: list[TrialRecord]
    losses: Array
    exact: Array
    feasible: NDArray[np.bool_]


def _until_another_finishes(compute: Callable[[Evidence], _Answer]) -> Callable[[Evidence], _Answer]:
    """Keep an answer until another trial has finished."""

    @wraps(compute)
    def answer(self: Evidence) -> _Answer:
        finished = len(self.history.by_status(Status.FINISHED))
        kept = self._answers.get(compute.__name__)
        if kept is None or kept[0] != finished:
            self._spreads.clear()
            kept = self._answers[compute.__name__] = finished, compute(self)
        return cast(_Answer, kept[1])

    return answer


class Evidence:
    """Tells the luck of configurations from the outputs that a search keeps.

    A configuration is given by one of its trials, or is a probe. Trials without outputs count with their
    values as if these were exact, and have no luck of their own. What the search decides by, ``chances`` and
    ``noises``, is computed from the validation split.

    Args:
        history: The trials.
        outputs: Their outputs.
        task: Computes metrics from outputs.
        labels: Returns the labels of all rows of a split; None if there are none, as for recorded trials.
    """

    def __init__(
        self, history: History, outputs: KeptOutputs, task: Task, labels: Callable[[str], Tensor | None]
    ) -> None:
        self.history = history
        self.outputs = outputs
        self._task = task
        self._read_labels = labels
        one = torch.zeros(1, task.kept_size), task.example_labels(1)
        #: Whether a metric of the task is a mean over rows, by name.
        self._by_rows = {m.name: task.row_values(m.name, *one) is not None for m in task.metrics}
        self._labels: dict[str, Tensor | None] = {}
        self._deviations: dict[tuple[str, str, str], Array | None] = {}
        #: The last answers to questions about all trials, with the number of trials that had finished.
        self._answers: dict[str, tuple[int, object]] = {}
        #: Spreads over seeds by objective and split. A question forgets them: results may have come since.
        self._spreads: dict[tuple[str, str], float] = {}

    @_until_another_finishes
    def chances(self) -> dict[str, float]:
        """Return the probability of each finished configuration to be on the front, see ``chances_on_front``.

        Returns:
            Probabilities by the name of the configuration's first finished trial. Configurations without
            outputs are left out, unless their values are out of the front's reach.
        """
        contest = self._contest()
        if contest is None:
            return {}
        chances = dict.fromkeys((record.trial_id for record in self._configurations()), 0.0)
        found = chances_on_front(contest.losses, contest.exact, contest.feasible)
        for record, chance in zip(contest.candidates, found.tolist(), strict=True):
            if self._is_known(record):
                chances[record.trial_id] = chance
            else:
                del chances[record.trial_id]
        return chances

    @_until_another_finishes
    def rivals(self) -> dict[str, TrialRecord]:
        """Return what keeps finished configurations off the front most often, see ``strongest_rivals``.

        Returns:
            Configurations and probes, by the name of the first finished trial of the one that is kept off.
        """
        contest = self._contest()
        if contest is None:
            return {}
        found = strongest_rivals(contest.losses, contest.exact, contest.feasible)
        pairs = zip(contest.candidates, found, strict=True)
        return {own.trial_id: contest.candidates[rival] for own, rival in pairs if rival is not None}

    @_until_another_finishes
    def noises(self) -> dict[str, dict[str, float]]:
        """Return how uncertain finished configurations are beside each other, see ``own_noise``.

        Returns:
            Standard deviations in the objectives' units, by the name of the configuration's first finished
            trial and by objective. Configurations without outputs are left out.
        """
        self._resample(self.history.configurations())
        known = [record for record in self.history.configurations() if self._is_known(record)]
        found: dict[str, dict[str, float]] = {record.trial_id: {} for record in known}
        for objective in self._trained:
            noises = own_noise([self._drawn(record, objective) for record in known])
            for record, noise in zip(known, noises.tolist(), strict=True):
                found[record.trial_id][objective.name] = noise
        return found

    def standard_errors(self, record: TrialRecord) -> dict[str, float]:
        """Return the standard errors of a configuration's metrics that reports show, see ``Luck``."""
        self._spreads.clear()
        tested = [objective for objective in self.history.shown if objective.tested]
        found = {}
        for split, prefix in (("validation", ""), ("test", "test_")):
            for objective in tested:
                if self._has_outputs(record, objective, split):
                    drawn = self._drawn(record, objective, split)
                    found[f"{prefix}{objective.name}"] = float(drawn.std(ddof=1))
        return found

    def difference(
        self, first: TrialRecord, second: TrialRecord, split: str, objective: Objective | None = None
    ) -> Difference | None:
        """Return by how much one configuration is better than another.

        Args:
            first: A trial of the first configuration.
            second: A trial of the second one.
            split: ``validation`` or ``test``.
            objective: What they are compared by; None takes the first objective that training decides.

        Returns:
            The difference; None if one of them has no outputs for the split.
        """
        self._spreads.clear()
        by = objective or self.history.trained_objective
        if not all(self._has_outputs(record, by, split) for record in (first, second)):
            return None
        one, other = (by.loss(1.0) * self._drawn(record, by, split) for record in (first, second))
        better, worse = (by.loss(self._value(record, by, split)) for record in (first, second))
        return paired_difference(one, other, observed=worse - better)

    def note(self) -> None:
        """Give each finished configuration of the history its ``luck``, for reports."""
        self._spreads.clear()
        chances, front = self.chances(), self.history.front()
        better = self._better_than_cheaper(front)
        shown = {record.trial_id for record in (*front, *self.history.best_of_methods())}
        shown |= set(self.history.probes)
        for record in (*self.history.configurations(), *self.history.probes.values()):
            name = record.trial_id
            errors = self.standard_errors(record) if name in shown else {}
            record.luck = Luck(chances.get(name), better.get(name), errors)

    @_until_another_finishes
    def _contest(self) -> _Contest | None:
        """Return what may be on the front, by luck or not; None if all outputs of it are missing."""
        self._resample(self.history.front())
        candidates = self._within_reach(self._configurations())
        self._resample(candidates)
        if not any(self._is_known(record) for record in candidates):
            return None
        costs = [[o.loss(self.history.values(r)[o.name]) for o in self._exact] for r in candidates]
        return _Contest(
            candidates,
            losses=np.stack([self._losses(record) for record in candidates]),
            exact=np.array(costs).reshape(len(candidates), -1),
            feasible=np.stack([self._feasible(record) for record in candidates]),
        )

    def _configurations(self) -> list[TrialRecord]:
        return [*self.history.configurations(), *self.history.rival_probes()]

    def _better_than_cheaper(self, front: Sequence[TrialRecord]) -> dict[str, float]:
        """Return ``chance_better`` of the front's members against their neighbours that cost less."""
        if not self._exact or not self._trained:
            return {}
        by_cost = sorted(front, key=lambda r: [o.loss(self.history.values(r)[o.name]) for o in self._exact])
        return {
            dearer.trial_id: chance_better(self._losses(dearer), self._losses(cheaper))
            for cheaper, dearer in itertools.pairwise(by_cost)
            if self._is_known(cheaper) and self._is_known(dearer)
        }

    def _within_reach(self, configurations: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Return the configurations that may be on the front by luck."""
        if not self._trained:
            return list(configurations)
        # What breaks a constraint in some resamples leaves the front to others there
        rivals = [r for r in self.history.front() if self._is_known(r) and self._feasible(r).all()]
        errors = [{o.name: float(self._drawn(rival, o).std()) for o in self._trained} for rival in rivals]
        return [
            record
            for record in configurations
            if not any(self._is_behind(record, *each) for each in zip(rivals, errors, strict=True))
        ]

    def _is_behind(self, record: TrialRecord, rival: TrialRecord, errors: Mapping[str, float]) -> bool:
        """Return whether a configuration is worse than another one by more than any luck.

        Args:
            record: The configuration.
            rival: The other one.
            errors: Standard errors of the other one by objective. Those of the first one are taken to be the
                same over rows, and come on top over seeds.
        """
        own, other = self.history.values(record), self.history.values(rival)
        if any(o.loss(own[o.name]) < o.loss(other[o.name]) for o in self._exact):
            return False
        margins = {
            o.name: REACH * math.hypot(math.sqrt(2) * errors[o.name], self._seed_error(record, o))
            for o in self._trained
        }
        return all(o.loss(own[o.name]) - o.loss(other[o.name]) > margins[o.name] for o in self._trained)

    def _seed_error(self, record: TrialRecord, objective: Objective) -> float:
        """Return the standard error of a configuration's value over its seeds."""
        values = [run.values[objective.name] for run in self._runs(record, "validation")]
        if len(values) == 1:
            return self._spread(objective, "validation")
        return stdev(values) / math.sqrt(len(values))

    @property
    def _trained(self) -> list[Objective]:
        return [objective for objective in self.history.objectives if not objective.known]

    @property
    def _exact(self) -> list[Objective]:
        return [objective for objective in self.history.objectives if objective.known]

    @property
    def _deciding(self) -> list[Objective]:
        """What decides about the front and is uncertain: objectives, and those with constraints."""
        bounded = [c.objective for c in self.history.constraints if not c.known]
        return list({o.name: o for o in (*self._trained, *bounded)}.values())

    @property
    def _resamples(self) -> int:
        """Number of resamples that everything has which decides about the front."""
        return min((self._count(objective) for objective in self._deciding), default=RESAMPLES)

    def _count(self, objective: Objective) -> int:
        return RESAMPLES if self._by_rows.get(objective.name, True) else RESCORED

    def _is_known(self, record: TrialRecord) -> bool:
        """Return whether the luck of a configuration on the validation split is known."""
        return any(self._has_outputs(record, objective) for objective in self._deciding)

    def _has_outputs(self, record: TrialRecord, objective: Objective, split: str = "validation") -> bool:
        self._resample([record], objective, split)
        return any(self._deviation(run, objective, split) is not None for run in self._runs(record, split))

    def _runs(self, record: TrialRecord, split: str) -> list[TrialRecord]:
        """Return a configuration's trials with results on a split, one for each seed."""
        runs = self.history.finished(record) or [record]
        return runs if split == "validation" else [run for run in runs if run.test]

    def _value(self, record: TrialRecord, objective: Objective, split: str) -> float:
        """Return a configuration's value on a split."""
        return fmean(_values(run, split)[objective.name] for run in self._runs(record, split))

    def _losses(self, record: TrialRecord) -> Array:
        """Return a configuration's losses in the trained objectives, of shape (resamples, objectives)."""
        drawn = [o.loss(1.0) * self._drawn(record, o)[: self._resamples] for o in self._trained]
        return np.stack(drawn, axis=1) if drawn else np.empty((self._resamples, 0))

    def _feasible(self, record: TrialRecord) -> NDArray[np.bool_]:
        """Return whether a configuration meets the constraints, of shape (resamples,)."""
        meets = np.ones(self._resamples, dtype=np.bool_)
        for constraint in self.history.constraints:
            if not constraint.known:
                drawn = self._drawn(record, constraint.objective)[: self._resamples]
                meets &= constraint.met_by(drawn)
        return meets

    def _drawn(self, record: TrialRecord, objective: Objective, split: str = "validation") -> Array:
        """Return a configuration's values in each resample, of shape (resamples,)."""
        self._resample([record], objective, split)
        values, deviations = self._seeds(record, objective, split)
        # A probe has no seed, and without outputs a value counts as exact
        seeded = len(deviations) > 0 and record.trial_id in self.history.trials
        # Who is lucky with a seed is better in all objectives
        luck = objective.loss(1.0) * self._spread(objective, split) if seeded else 0.0
        return over_seeds(values, deviations, derive_seed("seeds", record.key), luck)

    def _seeds(self, record: TrialRecord, objective: Objective, split: str) -> tuple[list[float], Array]:
        """Return a configuration's value for each seed, and the deviations of those with outputs."""
        runs = self._runs(record, split)
        known = (self._deviation(run, objective, split) for run in runs)
        deviations = [each for each in known if each is not None]
        values = [_values(run, split)[objective.name] for run in runs]
        return values, np.array(deviations).reshape(len(deviations), self._count(objective))

    def _spread(self, objective: Objective, split: str) -> float:
        """Return how much results are a matter of the seed, see ``pooled_spread``."""
        key = objective.name, split
        if key not in self._spreads:
            repeated = [r for r in self.history.configurations() if len(self._runs(r, split)) > 1]
            self._resample(repeated, objective, split)
            self._spreads[key] = pooled_spread(self._seeds(r, objective, split) for r in repeated)
        return self._spreads[key]

    def _deviation(self, run: TrialRecord, objective: Objective, split: str) -> Array | None:
        return self._deviations.get((run.trial_id, split, objective.name))

    def _resample(
        self, records: Sequence[TrialRecord], objective: Objective | None = None, split: str = "validation"
    ) -> None:
        """Compute what is not known yet of some configurations, many at once if there are many."""
        runs = [run for record in records for run in self._runs(record, split)]
        for name in [
            o.name for o in ([objective] if objective else self._deciding) if o.name in self._by_rows
        ]:
            lacking = [run.trial_id for run in runs if (run.trial_id, split, name) not in self._deviations]
            for start in range(0, len(lacking), _AT_ONCE):
                some = lacking[start : start + _AT_ONCE]
                for trial_id, deviation in zip(some, self._deviating(some, split, name), strict=True):
                    self._deviations[trial_id, split, name] = deviation

    def _deviating(self, trial_ids: Sequence[str], split: str, metric: str) -> list[Array | None]:
        """Return by how much a metric of each trial differs in each resample; None without outputs."""
        found: list[Array | None] = [None] * len(trial_ids)
        labels = self._labels_of(split)
        if labels is None:
            return found
        rows = kept_rows(len(labels), self._task.kept_size)
        kept = labels[rows]
        read = [self.outputs.read(trial_id, split) for trial_id in trial_ids]
        fitting = [
            index
            for index, each in enumerate(read)
            if each is not None and each.shape == (len(rows), self._task.kept_size)
        ]
        if not fitting:
            return found
        models = [(self._tuned(trial_ids[i]), torch.from_numpy(read[i]).float()) for i in fitting]
        values, drawn = resampled(metric, models, kept)
        # A sample of the rows is more uncertain than all of them.
        deviations = math.sqrt(len(rows) / len(labels)) * (drawn - values[:, None])
        for index, deviation in zip(fitting, deviations, strict=True):
            found[index] = deviation if np.isfinite(deviation).all() else None
        return found

    def _tuned(self, trial_id: str) -> Task:
        """Return the task as it was tuned to a trial's outputs on the validation split."""
        if not self._task.tunes:
            return self._task
        labels, read = self._labels_of("validation"), self.outputs.read(trial_id, "validation")
        if labels is None or read is None:
            return self._task
        rows = kept_rows(len(labels), self._task.kept_size)
        return self._task.tuned(torch.from_numpy(read).float(), labels[rows])

    def _labels_of(self, split: str) -> Tensor | None:
        if split not in self._labels:
            try:
                self._labels[split] = self._read_labels(split)
            except UserError:  # the dataset has gone; the results are there without it
                self._labels[split] = None
        return self._labels[split]


def _values(run: TrialRecord, split: str) -> dict[str, float]:
    return run.values if split == "validation" else run.test
