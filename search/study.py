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

from search.history import History, Infeasible, TrialRecord, canonical
from search.units import GIB
from spaces import Space, SpaceContext
from trainables.memory import MemoryPredictor
from trainables.trial import split_config

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

    A candidate above the budget is told to Optuna as a violated constraint and never started. A
    configuration that was tried before is answered from history and never trained twice. Only trials that
    ran all epochs are told as complete.

    Args:
        study: An Optuna study with one direction an objective.
        space: The space.
        context: The encoders' depths and widths.
        predictor: Predicts memory.
        history: Filled with trials and infeasible candidates.
        epochs: Epochs of a complete trial.
        max_memory: Budget in bytes, or None.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        context: SpaceContext,
        predictor: MemoryPredictor,
        history: History,
        epochs: int,
        max_memory: int | None,
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.context = context
        self.predictor = predictor
        self.history = history
        self.epochs = epochs
        self.max_memory = max_memory
        self.exhausted = False
        self._open: dict[str, int] = {}  # Tune's trial id -> Optuna's trial number
        for point in space.first_points(context):
            study.enqueue_trial(point)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its searcher, ours lives in the study on disk and in history."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next candidate worth training, or FINISHED when none is found any more."""
        for _ in range(MAX_REJECTED):
            trial = self.study.ask()
            config = self.space.sample(trial, self.context)
            known = self.history.find(config)
            if known is not None:
                self._tell_repeat(trial, known)
                continue
            report = self.predictor.predict(*split_config(config))
            if self.max_memory is not None:
                # In the objective's unit; at most 0 is feasible.
                trial.set_constraint("memory", (report.total - self.max_memory) / GIB)
                if report.total > self.max_memory:
                    self.history.infeasible[canonical(config)] = Infeasible(config, report)
                    self.study.tell(trial, self._worst({"memory": report.total / GIB}))
                    continue
            self._open[trial_id] = trial.number
            self.history.add(TrialRecord(trial_id, config, report))
            return {"config": config, "memory": report.total, "params": report.trainable_parameters}
        self.exhausted = True
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch's results."""
        self.history.note(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna the result of a trial that ran to its end; others are told as failed."""
        record = self.history.trials[trial_id]
        if result:
            self.history.note(trial_id, result)
        number = self._open.pop(trial_id, None)
        if error:
            record.status = "failed"
        elif len(record.epochs) >= self.epochs:
            record.status = "finished"
        else:
            record.status = "stopped"
        if number is None:
            return
        if record.status == "finished":
            self.study.tell(number, [record.values[o.name] for o in self.history.objectives])
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def save(self, checkpoint_path: str) -> None:
        """Write which Tune trial is which Optuna trial; the study itself is on disk at any moment."""
        Path(checkpoint_path).write_text(json.dumps(self._open))

    def restore(self, checkpoint_path: str) -> None:
        """Read what ``save`` wrote."""
        self._open = json.loads(Path(checkpoint_path).read_text())

    def _tell_repeat(self, trial: optuna.Trial, known: TrialRecord) -> None:
        if known.status != "finished":
            self.study.tell(trial, state=TrialState.FAIL)
            return
        if self.max_memory is not None:
            trial.set_constraint("memory", (known.memory.total - self.max_memory) / GIB)
        self.study.tell(trial, [known.values[o.name] for o in self.history.objectives])

    def _worst(self, known: dict[str, float]) -> list[float]:
        """Values for a candidate that was not trained: what is known, the reference for the rest."""
        return [known.get(o.name, self.history.reference[o.name]) for o in self.history.objectives]
