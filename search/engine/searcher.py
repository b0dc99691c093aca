"""The searcher: it gives Ray Tune the next trial, whose memory is known before it starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Checkpoint
from ray.tune.search import Searcher

from search.engine.answers import Answers
from search.engine.candidates import Candidates
from search.engine.gate import Gate
from search.engine.mistakes import Mistakes
from search.engine.outlook import outlook
from search.engine.prior import Prior
from search.engine.racing import Race
from search.engine.recorder import Recorder
from search.engine.study import DurableStudy
from search.goals.objectives import known_values
from search.placement import Placement, Share
from search.records.evidence import Evidence
from search.records.history import TrialRecord
from search.records.opening import kept_outputs
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.samplers import make_sampler
from search.samplers.common import DEVICE_MEMORY, LACKING
from search.samplers.ehvi import HypervolumeSampler
from search.setup import Setup
from trainables.seeds import derive_seed
from trainables.trial.assignment import Assignment, Bar


class ParetoSearcher(Searcher):
    """Hands out trials: first those that have begun, then new candidates, then repeats of the front.

    A candidate that breaks a constraint known before training is never started. A trial that a user's mistake
    kept from running is handed out again, on another node or when the search is resumed, see ``Mistakes``;
    the sampler learns nothing from it, and it stays one sample. A configuration is trained once, with two
    exceptions. A trial that ran out of memory because of its neighbours is handed out once more, alone, and
    does not count as another sample. If ``config.seeds`` is above 1, configurations whose place on the front
    is unsure, and what keeps them off it, are repeated with other seeds once no samples are left, see
    ``Race``.

    The store holds all that is needed to resume before Ray Tune hears of a trial. The searcher counts samples
    itself: Ray Tune must be given ``num_samples=-1``, or it would count retries.

    Args:
        setup: Settings of the search and what they stand for; the history holds the trials
            of the store.
        placement: Decides what share of a device a trial gets.
        store: Holds the state of the search; a search that it already holds is resumed.
        prior: Results of another search.
        listed: Parameter values of the configurations to train. If given, nothing else is trained, and the
            settings' sampler and number of samples are ignored. A resumed search may be given more of them.

    Attributes:
        done: Whether nothing is left to do.
        mistakes: Decides what becomes of trials that a user's mistake keeps from running.
    """

    def __init__(
        self,
        setup: Setup,
        placement: Placement,
        store: SearchStore,
        prior: Prior | None = None,
        listed: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.setup = setup
        self.config = config = setup.config
        self.history = history = setup.history
        self.placement = placement
        self.store = store
        outputs = kept_outputs(store, config.place)
        self.evidence = Evidence(history, outputs, setup.backend.task, setup.backend.labels)
        alone = config.configuration.method is not None
        self.race = Race(self.evidence, config.search.seeds, store, alone=alone)
        self.recorder = Recorder(history, setup.rule, store, outputs, config.trial.epochs)
        self.mistakes = Mistakes(placement)
        self.recorder.listeners.append(self.mistakes)
        self.gate = Gate.of_trials(setup, placement)
        self._known = [objective for objective in history.objectives if objective.known]
        self._open: dict[str, TrialRecord] = {}  # by Tune's trial id
        self._shares: dict[str, Share] = {}  # by Tune's trial id, for open trials
        self._waiting: deque[TrialRecord] = deque()  # to be handed out before anything new
        self.done = False
        self._listed = listed
        prior = prior or Prior()
        resumed = store.fact("sampler") is not None
        self.study = DurableStudy(
            store,
            history.objectives,
            lambda planned: make_sampler(
                config.search.sampler if listed is None else "random", planned, config.search.seed
            ),
            config.search.num_samples,
            [*setup.space.first_points(setup.context), *prior.points] if listed is None else listed,
            config.search.seed,
        )
        constraints = [*map(str, history.constraints), DEVICE_MEMORY, LACKING]
        self.candidates = Candidates(setup, self.study, constraints, listed=listed is not None)
        self.answers = Answers(setup, self.gate, self.candidates)
        if isinstance(self.study.sampler, HypervolumeSampler):
            self.study.sampler.attach(outlook(setup, self.gate, self.evidence))
        with store.transaction():
            if resumed:
                self._restore()
            else:
                self.answers.learn(prior)
            self.study.save()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its searcher, but the state of this one is in the store."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return what Ray Tune needs to run the next trial.

        The answer is None while no device has room, or while the result of an open trial may decide what
        comes next. It is ``FINISHED`` once nothing is left to do.
        """
        if self.placement.full(self._shares[tune_id] for tune_id in self._open):
            return None
        with self.store.transaction():
            record = None if self.mistakes.halted else self._next()
            if record is not None:
                return self._hand_out(record, trial_id)
        self.done = not self._open
        return Searcher.FINISHED if self.done else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle how a trial ended, and tell Optuna unless its configuration is tried again.

        Args:
            trial_id: Ray Tune's id.
            result: The last report of the trial; not used, because the recorder has it.
            error: Whether it ended in an error.
        """
        record = self._open.pop(trial_id)
        del self._shares[trial_id]
        with self.recorder.end(record, error=error):
            if record.status is Status.OUT_OF_MEMORY and self._others_were_in_the_way(record):
                record.message += "; tried once more, alone"
                self.history.settle(record, Status.RETRIED)
                self._try_alone(record)
            elif record.status is Status.SET_ASIDE:
                if self.mistakes.goes_on(record):
                    self._waiting.append(record)
            else:
                self.answers.tell(record)
            self.study.save()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the recorder already has the result."""

    def break_off(self, error: str) -> None:
        """Take back the open trials after Ray Tune ended because a worker was killed for its memory.

        The trials of killed workers end. The others are handed out again, to resume from their last
        checkpoint.

        Args:
            error: Ray's error message, which names the killed workers.
        """
        for trial_id, record in list(self._open.items()):
            if record.worker is not None and record.worker in error:
                message = error.splitlines()[0][:300]
                ending = Ending(Status.OUT_OF_MEMORY, "", message)
                self.recorder.fail(trial_id, message, ending, record.node, record.hostname)
                self.on_trial_complete(trial_id)
            else:
                self._waiting.appendleft(self._open.pop(trial_id))
                del self._shares[trial_id]

    def assignment(self, record: TrialRecord) -> tuple[Assignment, Share]:
        """Return a trial's assignment, from its last checkpoint on, and the share that it asks for."""
        if record.expected is None:
            record.expected = self.gate.expected(record.config, self.setup.predictor)
        share = self.placement.of(self.gate.needed_for(record.config, record.expected), alone=record.alone)
        assignment = Assignment(
            config=record.config,
            seed=record.seed,
            threads=share.threads,
            trial_id=record.trial_id,
            leg=record.legs,
            granted=share.granted,
            expected=record.expected,
            checkpoint=Checkpoint(self.config.place.inside(record.checkpoint)) if record.checkpoint else None,
            bar=self._bar(record),
        )
        return assignment, share

    def _bar(self, record: TrialRecord) -> Bar | None:
        """Return what a trial must reach to be on the front as it is now, or to be the best of its method.

        The objectives that are known before training are exact, so that the one that is trained decides. With
        several trained ones, trials are scored when the search ends.
        """
        history = self.history
        trained = [objective for objective in history.objectives if not objective.known]
        if len(trained) != 1 or not trained[0].tested or self.setup.backend.untested is not None:
            return None
        (objective,) = trained
        known = known_values(record.memory)

        def loss(member: TrialRecord) -> float:
            return objective.loss(history.values(member)[objective.name])

        cheaper = [
            member
            for member in history.front()
            if all(o.loss(history.values(member)[o.name]) <= o.loss(known[o.name]) for o in self._known)
        ]
        alike = [m for m in history.best_of_methods() if m.config["method"] == record.config["method"]]
        if record.repeat_of is not None or not cheaper or not alike:
            return Bar(objective.name)
        highest = max(min(map(loss, cheaper)), min(map(loss, alike)))
        if objective.direction == "minimize":
            return Bar(objective.name, at_most=highest)
        return Bar(objective.name, at_least=-highest)

    @property
    def planned(self) -> int:
        """Total number of samples to hand out."""
        return self.config.search.num_samples if self._listed is None else len(self._listed)

    @property
    def samples(self) -> int:
        """Number of samples handed out so far."""
        return sum(record.number is not None for record in self.history.trials.values())

    def _next(self) -> TrialRecord | None:
        """Return the trial to hand out next: one that has begun, else a new one, else a repeat."""
        if self._waiting:
            return self._waiting.popleft()
        busy = {record.trial_id for record in self._open.values()}  # paused ones too, until they have saved
        paused = [record for record in self.history.by_status(Status.PAUSED) if record.trial_id not in busy]
        promoted = self.setup.rule.promote({record.trial_id: len(record.epochs) for record in paused})
        if promoted is not None:
            record = self.history.trials[promoted]
            self.answers.take_back(record)
            return record
        if self.samples < self.planned and not self.candidates.exhausted:
            new = self._new()
            if new is not None:
                return new
        return self._repeat()

    def _hand_out(self, record: TrialRecord, tune_id: str) -> dict[str, Any]:
        """Open a trial; return Ray Tune's configuration: the ``assignment`` and the ``share`` it asks for."""
        for other in self._open.values():
            record.neighbours.append(other)
            other.neighbours.append(record)
        record.status, record.ending = Status.RUNNING, None
        self.history.start_leg(record, tune_id)
        self._open[tune_id] = record
        self.recorder.keep(record)
        self.study.save()
        assignment, share = self.assignment(record)
        self._shares[tune_id] = share
        return {"assignment": assignment, "share": share}

    def _new(self) -> TrialRecord | None:
        """Return a trial of an untried configuration; None if none seems to exist."""
        found = next(iter(self.candidates.take(self.answers)), None)
        if found is None or found.assessment is None:
            return None
        known = found.assessment
        record = TrialRecord(
            self.history.next_id(),
            found.config,
            known.memory,
            number=found.number,
            seed=self.config.search.seed,
            expected=known.expected,
        )
        self.history.add(record)
        return record

    def _repeat(self) -> TrialRecord | None:
        """Return a trial that repeats a configuration with a new seed; None if the race has ended."""
        first = self.race.next()
        if first is None:
            return None
        seed = derive_seed(self.config.search.seed, "repeat", len(self.race.runs(first)))
        record = TrialRecord(
            self.history.next_id(), first.config, first.memory, seed=seed, repeat_of=first.trial_id
        )
        self.history.add(record)
        return record

    def _try_alone(self, first: TrialRecord) -> None:
        """Queue a trial that ran out of memory again, with a device to itself."""
        record = TrialRecord(
            self.history.next_id(),
            first.config,
            first.memory,
            seed=first.seed,
            alone=True,
            retry_of=first.trial_id,
            repeat_of=first.repeat_of,
        )
        self.history.add(record)
        self._waiting.append(record)
        self.recorder.keep(record)

    def _restore(self) -> None:
        """Take up the trials that the history holds, and the infeasible candidates in the store."""
        self.recorder.catch_up()
        with self.store.restoring():
            self.answers.restore()
        for record in self.history.trials.values():
            # The store knows a trial's last checkpoint before its end: an interruption may fall in between.
            begun = record.status is Status.RUNNING and len(record.epochs) < self.config.trial.epochs
            if begun or record.status is Status.SET_ASIDE:
                self._waiting.append(record)
            elif record.status is Status.RUNNING:
                self.history.settle(record, Status.FINISHED)
                self.answers.tell(record)
                self.recorder.keep(record)
            elif record.status in (Status.PAUSED, Status.STOPPED):
                self.answers.catch_up(record)

    def _others_were_in_the_way(self, record: TrialRecord) -> bool:
        """Whether a trial that ran out of memory might have had enough without its neighbours."""
        if record.alone or record.ending is None:
            return False
        if record.ending.below_share is not None:
            return record.ending.below_share
        # Nobody knows who took the memory: any neighbour that may have been on the same node is blamed.
        return any(
            None in (record.node, other.node) or record.node == other.node for other in record.neighbours
        )
