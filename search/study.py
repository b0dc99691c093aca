"""The searcher: one Optuna study behind Ray Tune, with memory known before a trial starts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.history import UNFINISHED, Ending, History, Infeasible, TrialRecord, canonical
from search.resources import Placement, Share
from search.units import GIB
from spaces import Space, SpaceContext
from trainables.memory import MemoryPredictor, MemoryReport

#: Candidates in a row that may be repeats or infeasible before the space counts as exhausted.
MAX_REJECTED = 200


def make_sampler(name: str, num_samples: int, seed: int) -> BaseSampler:
    """Return an Optuna sampler for several objectives.

    ``tpe`` is the default: it learns from the first handful of trials on and counts those still running,
    where ``nsga2`` needs whole generations before it differs from random search.

    Args:
        name: ``tpe``, ``nsga2`` or ``random``.
        num_samples: Trials planned; start-up trials and generations are a share of them.
        seed: Random seed.
    """
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=max(4, min(50, num_samples // 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of ``group``: there since Optuna 2.8
        return TPESampler(
            seed=seed,
            multivariate=True,
            group=True,  # the parameters that depend on another one's value are modelled together too
            n_startup_trials=max(4, min(10, num_samples // 4)),
        )


class ParetoSearcher(Searcher):
    """Asks Optuna for candidates, gates them by predicted memory and tells Optuna what came of them.

    A candidate above the budget is told to Optuna as a violated constraint and never started. A configuration
    that was tried before is answered from history and never trained twice, with one exception: one that ran
    out of memory while others were in its way is handed out once more, alone, without counting as another
    sample. Trials that ran all epochs are told with their values, those that ran out of memory or diverged
    as infeasible, others as failed.

    Samples are counted here: Ray Tune must be given ``num_samples=-1``, or it would count retries.

    Args:
        study: An Optuna study with one direction an objective.
        space: The space.
        context: The encoders' depths and widths.
        predictor: Predicts memory.
        history: Filled with trials and infeasible candidates.
        placement: What trials are given.
        num_samples: Trials to hand out.
        epochs: Epochs of a complete trial.
        max_memory: Budget in bytes, or None. What no device holds is above it too.
        cached: Whether trials take the frozen lower layers' output from a cache.

    Attributes:
        exhausted: Whether the space holds no further feasible configuration.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        context: SpaceContext,
        predictor: MemoryPredictor,
        history: History,
        placement: Placement,
        num_samples: int,
        epochs: int,
        max_memory: int | None,
        cached: bool,
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.context = context
        self.predictor = predictor
        self.history = history
        self.placement = placement
        self.num_samples = num_samples
        self.epochs = epochs
        self.max_memory = max_memory
        self.cached = cached
        self._filling = predictor.encoding_memory() if cached else 0
        self.exhausted = False
        self._handed_out = 0
        self._open: dict[str, optuna.Trial] = {}  # by Tune's trial id
        self._retries: list[tuple[TrialRecord, optuna.Trial]] = []
        self._broken_off: list[tuple[TrialRecord, optuna.Trial]] = []
        for point in space.first_points(context):
            study.enqueue_trial(point)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its searcher, ours lives in the study on disk and in history."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next candidate worth training.

        None while there is no room for it, or while an open trial may have to be tried again; FINISHED once
        neither samples nor open trials are left.
        """
        if self.placement.full(self.share(self.history.trials[name]) for name in self._open):
            return None
        if self._broken_off:
            record, trial = self._broken_off.pop(0)
            self.history.rename(record, trial_id)
            return self._hand_out(record, trial)
        if self._retries:
            first, trial = self._retries.pop(0)
            record = TrialRecord(trial_id, first.config, first.memory, alone=True, retry_of=first.trial_id)
            self.history.add(record)
            return self._hand_out(record, trial)
        if self._handed_out < self.num_samples and not self.exhausted:
            found = self._ask()
            if found is not None:
                trial, config, report = found
                record = TrialRecord(trial_id, config, report)
                self.history.add(record)
                self._handed_out += 1
                return self._hand_out(record, trial)
            self.exhausted = True
        return None if self._open else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch's results."""
        self.history.note(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle how a trial ended, and tell Optuna unless its configuration is tried again."""
        record = self.history.trials[trial_id]
        if result:
            self.history.note(trial_id, result)
        trial = self._open.pop(trial_id)
        if record.ending is not None:
            record.status = record.ending.status
            record.message = _sentence(record.ending)
        elif error:
            record.status = "failed"
        else:
            record.status = "finished" if len(record.epochs) >= self.epochs else "stopped"
        if self._others_were_in_the_way(record):
            record.status = "retried"
            record.message += "; tried once more, alone"
            self._retries.append((record, trial))
        else:
            self._tell(trial, record)

    def break_off(self, error: str) -> list[TrialRecord]:
        """Take back what is open, after Ray Tune broke off because a worker was killed for want of memory.

        The trials of killed workers end; the others are handed out again, to go on from their last checkpoint
        under another id of Tune's.

        Args:
            error: Ray's words, which name the killed workers.

        Returns:
            The trials that end.
        """
        ended = []
        for trial_id in list(self._open):
            record = self.history.trials[trial_id]
            if record.worker is not None and record.worker in error:
                ending = {"status": "out_of_memory", "stage": "", "below_share": None}
                self.on_trial_complete(trial_id, {**ending, "message": error.splitlines()[0][:300]})
                ended.append(record)
            else:
                self._broken_off.append((record, self._open.pop(trial_id)))
        return ended

    def close(self) -> bool:
        """Mark what was still to be done as stopped; return whether there was any."""
        left = [*self.history.by_status("running"), *(record for record, _ in self._retries)]
        for record in left:
            record.status = "stopped"
        return bool(left)

    def save(self, checkpoint_path: str) -> None:
        """Write which Tune trial is which Optuna trial; the study itself is on disk at any moment."""
        numbers = {trial_id: trial.number for trial_id, trial in self._open.items()}
        Path(checkpoint_path).write_text(json.dumps(numbers))

    def _ask(self) -> tuple[optuna.Trial, dict[str, Any], MemoryReport] | None:
        """Ask Optuna until a candidate is new and within the budget; None if there seems to be none."""
        for _ in range(MAX_REJECTED):
            trial = self.study.ask()
            config = self.space.sample(trial, self.context)
            known = self.history.find(config)
            if known is not None:
                self._tell(trial, known)
                continue
            report = self.predictor.predict_configuration(config)
            excess = self._excess(config, report)
            if excess <= 0:
                return trial, config, report
            self.history.infeasible[canonical(config)] = Infeasible(config, report)
            trial.set_constraint("memory", excess / GIB)
            self.study.tell(trial, self._worst(report))
        return None

    def share(self, record: TrialRecord) -> Share:
        """Return what a trial asks of the cluster."""
        return self.placement.of(self._needed(record.config), alone=record.alone)

    def _hand_out(self, record: TrialRecord, trial: optuna.Trial) -> dict[str, Any]:
        """Open a trial; return what Ray Tune and ``FusionTrial`` get to know of it."""
        for name in self._open:
            other = self.history.trials[name]
            record.neighbours.append(other)
            other.neighbours.append(record)
        self._open[record.trial_id] = trial
        share = self.share(record)
        return {
            "config": record.config,
            "memory": record.memory.total,
            "expected": self._expected(record.config),
            "params": record.memory.trainable_parameters,
            "needed": self._needed(record.config),
            "granted": share.granted,
            "threads": share.threads,
            "alone": record.alone,
            "checkpoint": record.checkpoint,
        }

    def _expected(self, config: dict[str, Any]) -> int:
        """Bytes of tensors that a trial holds at its peak in this search, which saves what it can."""
        return self.predictor.predict_as_run(config, cached=self.cached).total

    def _needed(self, config: dict[str, Any]) -> int:
        """Bytes that a trial needs on its device, in its steps and while it fills the cache."""
        return self.placement.needed(max(self._expected(config), self._filling))

    def _excess(self, config: dict[str, Any], memory: MemoryReport) -> int:
        """Bytes above the budget, or else above what any device has; at most 0 is feasible."""
        over_budget = memory.total - self.max_memory if self.max_memory is not None else 0
        if over_budget > 0 or self.placement.limit is None:
            return over_budget
        over_device = self._needed(config) - self.placement.limit
        return max(over_budget, over_device) if self.max_memory is not None else over_device

    def _others_were_in_the_way(self, record: TrialRecord) -> bool:
        """Whether a trial that ran out of memory might have had enough without its neighbours."""
        if record.status != "out_of_memory" or record.alone or record.ending is None:
            return False
        if record.ending.below_share is not None:
            return record.ending.below_share
        # Nobody knows whose memory it was: anyone's who, for all we know, was on the same node.
        return any(
            None in (record.node, other.node) or record.node == other.node for other in record.neighbours
        )

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Tell Optuna how a configuration did: in Optuna, a constraint is kept where it is at most 0."""
        if record.status not in ("finished", "out_of_memory", "diverged"):
            self.study.tell(trial, state=TrialState.FAIL)
            return
        # How much was missing is unknown. With all that it takes as the answer, larger ones are worse.
        out = record.status == "out_of_memory"
        trial.set_constraint(
            "memory", (record.memory.total if out else self._excess(record.config, record.memory)) / GIB
        )
        trial.set_constraint("finite", float(record.status == "diverged"))
        if record.status == "finished":
            self.study.tell(trial, [record.values[o.name] for o in self.history.objectives])
        else:
            self.study.tell(trial, self._worst(record.memory))

    def _worst(self, memory: MemoryReport) -> list[float]:
        """Values for a candidate without a result: what is known, the reference for the rest."""
        known = {"memory": memory.total / GIB, "params": float(memory.trainable_parameters)}
        return [known.get(o.name, self.history.reference[o.name]) for o in self.history.objectives]


def _sentence(ending: Ending) -> str:
    where = f" ({ending.stage})" if ending.stage else ""
    return f"{UNFINISHED[ending.status]}{where}: {ending.message}"
