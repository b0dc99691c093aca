"""What the sampler is told of configurations, and which of its proposals become trials."""

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
    """Gates candidates by what is known of them, and tells Optuna what came of trials.

    A candidate whose memory (or parameters, or checkpoint) breaks a constraint is told to Optuna as
    infeasible. A configuration that was tried before is answered from history.

    What Optuna is told of trials that did not run all epochs is comparable with nothing that did, so it never
    stands beside it: a trial that the rule paused or stopped is told with its values and a violated
    constraint, ``unfinished``, the share of its epochs that is missing. Samplers rank what violates
    constraints behind all that does not, and by how much: as Optuna's own samplers rank pruned trials where
    there is one objective. One that goes on later is taken back until it ends. Trials that ran out of memory
    or diverged are told as infeasible, those that ended in an error as failed, which samplers do not see.

    Args:
        setup: The search's.
        gate: What trials keep to.
        candidates: Asks and tells the sampler.
    """

    def __init__(self, setup: Setup, gate: Gate, candidates: Candidates) -> None:
        self.setup = setup
        self.history = setup.history
        self.gate = gate
        self.candidates = candidates
        self.study = candidates.study

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate that is new and keeps to what is known, with what was predicted of it."""
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
        """Return whether even a better result than any so far would hardly be worth a candidate's memory."""
        assert candidate.assessment is not None
        return self.setup.config.search.defer and not promises(self.history, candidate.assessment.memory)

    def tell(self, record: TrialRecord) -> None:
        """Tell Optuna how a trial did, under the number that it was asked for."""
        number = self._asked_as(record)
        if number is not None:
            self._answer(number, record)

    def take_back(self, record: TrialRecord) -> None:
        """Take back what Optuna was told of a trial: it runs on."""
        number = self._asked_as(record)
        if number is not None:
            self.study.reopen(number)

    def catch_up(self, record: TrialRecord) -> None:
        """Tell Optuna of a trial that was interrupted, unless it was told."""
        number = self._asked_as(record)
        if number is not None and not self.study.frozen(number).state.is_finished():
            self._answer(number, record)

    def learn(self, prior: Prior) -> None:
        """Tell Optuna of another search's finished trials."""
        for point, values in prior.results:
            trial = self.study.ask(point)
            self.setup.space.sample(trial, self.setup.context)
            self.candidates.tell(trial.number, values, {})

    def restore(self) -> None:
        """Take up the candidates that were found to break constraints."""
        for number in range(len(self.study)):
            kept = self.study.frozen(number).user_attrs.get("infeasible")
            if kept:
                found = Infeasible(kept["config"], MemoryReport(**kept["memory"]))
                self.history.infeasible[canonical(found.config)] = found

    def _asked_as(self, record: TrialRecord) -> int | None:
        """Return the number under which the sampler was asked for a trial, or for the one that it retries."""
        return self.history.trials[record.retry_of].number if record.retry_of else record.number

    def _answer(self, number: int, record: TrialRecord) -> None:
        """Tell Optuna, under a number, how a configuration did."""
        missing = 1 - len(record.epochs) / self.setup.config.trial.epochs
        # One that failed after it had been paused was told already, and cannot become unseen.
        told = self.study.frozen(number).values is not None
        partial = bool(record.epochs) and (record.status in (Status.PAUSED, Status.STOPPED) or told)
        ended = (Status.FINISHED, Status.OUT_OF_MEMORY, Status.DIVERGED)
        if record.status not in ended and not partial:
            self.study.fail(number)
            return
        known = self.gate.assess(record.config, self.setup.predictor, record.memory)
        violations = dict(known.violations)
        if record.status is Status.OUT_OF_MEMORY:
            # How much was missing is unknown. With all that it takes as the answer, larger ones are worse.
            violations[DEVICE_MEMORY] = record.memory.total / GIB
        if record.status is Status.FINISHED or partial:
            violations |= {**self.history.violations(record.values), LACKING: missing}
            values = record.values
        else:
            violations[LACKING] = float(record.status is Status.DIVERGED)
            values = known_values(record.memory)
        self.candidates.tell(number, values, violations)
