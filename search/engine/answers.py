"""Answers to the sampler: which proposals become trials, and how configurations did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from search.engine.candidates import Candidate, Candidates
from search.engine.gate import Gate
from search.engine.outlook import promises
from search.engine.prior import Prior
from search.goals.objectives import known_values
from search.records.history import Infeasible, TrialRecord, canonical
from search.records.status import Status
from search.samplers.common import DEVICE_MEMORY, LACKING
from search.setup import Setup
from search.units import GIB
from trainables.memory import MemoryReport


class Answers:
    """Gates candidates by what is known before training, and tells Optuna how trials did.

    A candidate whose memory (or parameters, or checkpoint) breaks a constraint is told to Optuna as
    infeasible. A configuration that was tried before is answered from the history.

    Results of a trial that did not run all epochs are not comparable with results of one that did. A trial
    that the rule paused or stopped is therefore told with its values and a violated constraint,
    ``unfinished``: the share of its epochs that is missing. Samplers rank trials that violate constraints
    behind all others, ordered by the size of the violation. Optuna's own samplers rank pruned trials in the
    same way if there is one objective. If the trial resumes later, its result is withdrawn until it ends.
    Trials that ran out of memory or diverged are told as infeasible. Trials that ended in an error are told
    as failed, and samplers do not see them.

    Args:
        setup: The setup of the search.
        gate: Checks constraints before training.
        candidates: Asks and tells the sampler.
    """

    def __init__(self, setup: Setup, gate: Gate, candidates: Candidates) -> None:
        self.setup = setup
        self.history = setup.history
        self.gate = gate
        self.candidates = candidates
        self.study = candidates.study

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return a new and feasible candidate with its assessment; answer Optuna for any other one."""
        tried = self.history.find(candidate.config)
        if tried is not None:
            self._answer(candidate.number, tried)
            return None
        found = self.gate.assess(candidate.config, self.setup.predictor)
        if found.feasible:
            return replace(candidate, assessment=found)
        self.history.infeasible[candidate.key] = Infeasible(candidate.config, found.memory)
        described = {"config": candidate.config, "memory": asdict(found.memory)}
        self.study.describe(candidate.number, "infeasible", described)
        self.candidates.tell(candidate.number, known_values(found.memory), found.violations)
        return None

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether a configuration was tried, or found to break a constraint."""
        return self.history.find(config) is not None or canonical(config) in self.history.infeasible

    def postpones(self, candidate: Candidate) -> bool:
        """Return whether a candidate would add little to the front even with a new best result."""
        assert candidate.assessment is not None
        return self.setup.config.search.defer and not promises(self.history, candidate.assessment.memory)

    def tell(self, record: TrialRecord) -> None:
        """Tell Optuna how a trial did, under the number of its proposal."""
        number = self._asked_as(record)
        if number is not None:
            self._answer(number, record)

    def take_back(self, record: TrialRecord) -> None:
        """Withdraw what Optuna was told about a trial that resumes."""
        number = self._asked_as(record)
        if number is not None:
            self.study.reopen(number)

    def catch_up(self, record: TrialRecord) -> None:
        """Tell Optuna how an interrupted trial did, unless it was told before."""
        number = self._asked_as(record)
        if number is not None and not self.study.frozen(number).state.is_finished():
            self._answer(number, record)

    def learn(self, prior: Prior) -> None:
        """Tell Optuna the results of another search's finished trials."""
        for point, values in prior.results:
            trial = self.study.ask(point)
            self.setup.space.sample(trial, self.setup.context)
            self.candidates.tell(trial.number, values, {})

    def restore(self) -> None:
        """Read the candidates that broke constraints from the study into the history."""
        for number in range(len(self.study)):
            kept = self.study.frozen(number).user_attrs.get("infeasible")
            if kept:
                found = Infeasible(kept["config"], MemoryReport(**kept["memory"]))
                self.history.infeasible[canonical(found.config)] = found

    def _asked_as(self, record: TrialRecord) -> int | None:
        """Return the number of a trial's proposal; a retry has the number of the trial that it retries."""
        return self.history.trials[record.retry_of].number if record.retry_of else record.number

    def _answer(self, number: int, record: TrialRecord) -> None:
        """Tell Optuna how the configuration of a numbered proposal did."""
        missing = 1 - len(record.epochs) / self.setup.config.trial.epochs
        # Samplers have seen a trial that was told when it paused: if it fails later, it cannot be hidden.
        told = self.study.frozen(number).values is not None
        partial = bool(record.epochs) and (record.status in (Status.PAUSED, Status.STOPPED) or told)
        ended = (Status.FINISHED, Status.OUT_OF_MEMORY, Status.DIVERGED)
        if record.status not in ended and not partial:
            self.study.fail(number)
            return
        known = self.gate.assess(record.config, self.setup.predictor, record.memory)
        violations = dict(known.violations)
        if record.status is Status.OUT_OF_MEMORY:
            # The number of missing bytes is unknown. The predicted memory makes larger trials worse.
            violations[DEVICE_MEMORY] = record.memory.memory / GIB
        if record.status is Status.FINISHED or partial:
            violations |= {**self.history.violations(record.values), LACKING: missing}
            values = record.values
        else:
            violations[LACKING] = float(record.status is Status.DIVERGED)
            values = known_values(record.memory)
        self.candidates.tell(number, values, violations)
