"""The searcher: what is tried next, with memory known before a trial starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from search.engine.answers import Answers
from search.engine.candidates import Candidates
from search.engine.gate import Gate
from search.engine.outlook import outlook
from search.engine.prior import Prior
from search.engine.recorder import Recorder
from search.engine.study import DurableStudy
from search.placement import Placement, Share
from search.records.history import TrialRecord
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.samplers import make_sampler
from search.samplers.common import DEVICE_MEMORY, LACKING
from search.samplers.ehvi import HypervolumeSampler
from search.setup import Setup
from trainables.trial.assignment import Assignment


class ParetoSearcher(Searcher):
    """Hands out trials: those that were begun, then new candidates, then the front's repeats.

    A candidate that breaks what is known of it is never started, and a configuration that was tried before is
    never trained twice, with two exceptions: one that ran out of memory while others were in its way is
    handed out once more, alone, without counting as another sample; and with ``config.seeds`` above 1 those
    on the front are repeated with other seeds once no samples are left.

    All that is needed to go on after an interruption is in the store before Ray Tune hears of it. Samples are
    counted here: Ray Tune must be given ``num_samples=-1``, or it would count retries.

    Args:
        setup: The search's settings and what they stand for; its history comes empty.
        placement: What trials are given.
        store: Where all is kept; a search that it holds already is gone on with.
        prior: What another search found.
        listed: Parameter values of the configurations to train. Nothing else is trained then, whatever the
            settings say of sampler and samples; a search that is gone on with may be given more of them.
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
        self.recorder = Recorder(history, setup.rule, store, config.trial.epochs)
        self.gate = Gate.of(
            history.constraints, placement, setup.predictor, cached=config.trial.feature_cache
        )
        self._open: dict[str, TrialRecord] = {}  # by Tune's trial id
        self._shares: dict[str, Share] = {}  # what they were given
        self._waiting: deque[TrialRecord] = deque()  # to be handed out before anything new
        self._listed = listed
        prior = prior or Prior()
        resumed = store.fact("sampler") is not None
        self.study = DurableStudy(
            store,
            history.objectives,
            lambda: make_sampler(
                config.search.sampler if listed is None else "random",
                config.search.num_samples,
                config.search.seed,
            ),
            [*setup.space.first_points(setup.context), *prior.points] if listed is None else listed,
            config.search.seed,
        )
        constraints = [*map(str, history.constraints), DEVICE_MEMORY, LACKING]
        self.candidates = Candidates(setup, self.study, constraints, listed=listed is not None)
        self.answers = Answers(setup, self.gate, self.candidates)
        if isinstance(self.study.sampler, HypervolumeSampler):
            self.study.sampler.attach(outlook(setup, self.gate))
        with store.transaction():
            if resumed:
                self._restore()
            else:
                self.answers.learn(prior)
            self.study.save()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its searcher, ours lives in the store."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next candidate worth training.

        None while there is no room for it, or while what an open trial brings may decide what is next;
        FINISHED once nothing is left to do.
        """
        if self.placement.full(self._shares[tune_id] for tune_id in self._open):
            return None
        with self.store.transaction():
            record = self._next()
            if record is not None:
                return self._hand_out(record, trial_id)
        return None if self._open else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle how a trial ended, and tell Optuna unless its configuration is tried again.

        Args:
            trial_id: Ray Tune's id.
            result: What the trial reported last, which the recorder knows.
            error: Whether it ended in an error.
        """
        record = self._open.pop(trial_id)
        del self._shares[trial_id]
        with self.recorder.end(record, error=error):
            if record.status is Status.OUT_OF_MEMORY and self._others_were_in_the_way(record):
                record.message += "; tried once more, alone"
                self.history.settle(record, Status.RETRIED)
                self._try_alone(record)
            else:
                self.answers.tell(record)
            self.study.save()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the recorder has heard of the result already."""

    def break_off(self, error: str) -> None:
        """Take back what is open, after Ray Tune broke off because a worker was killed for want of memory.

        The trials of killed workers end; the others are handed out again, to go on from their last
        checkpoint.

        Args:
            error: Ray's words, which name the killed workers.
        """
        for trial_id, record in list(self._open.items()):
            if record.worker is not None and record.worker in error:
                message = error.splitlines()[0][:300]
                self.recorder.fail(trial_id, message, Ending(Status.OUT_OF_MEMORY, "", message), record.node)
                self.on_trial_complete(trial_id)
            else:
                self._waiting.appendleft(self._open.pop(trial_id))
                del self._shares[trial_id]

    def assignment(self, record: TrialRecord) -> tuple[Assignment, Share]:
        """Return what a trial is to do, from its last checkpoint on, and what it asks of the cluster."""
        if record.expected is None:
            record.expected = self.gate.expected(record.config, self.setup.predictor)
        share = self.placement.of(self.gate.needed_for(record.expected), alone=record.alone)
        assignment = Assignment(
            config=record.config,
            seed=record.seed,
            threads=share.threads,
            trial_id=record.trial_id,
            leg=record.legs,
            granted=share.granted,
            expected=record.expected,
            checkpoint=record.checkpoint,
        )
        return assignment, share

    @property
    def planned(self) -> int:
        """Samples to hand out in all."""
        return self.config.search.num_samples if self._listed is None else len(self._listed)

    @property
    def samples(self) -> int:
        """Samples handed out so far."""
        return sum(record.number is not None for record in self.history.trials.values())

    def _next(self) -> TrialRecord | None:
        """Return the trial to hand out next: one that was begun, else a new one."""
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
        """Open a trial; return what Ray Tune gets: an ``assignment``, and the ``share`` that it asks for."""
        for other in self._open.values():
            record.neighbours.append(other)
            other.neighbours.append(record)
        record.status = Status.RUNNING
        self.history.start_leg(record, tune_id)
        self._open[tune_id] = record
        self.recorder.keep(record)
        self.study.save()
        assignment, share = self.assignment(record)
        self._shares[tune_id] = share
        return {"assignment": assignment, "share": share}

    def _new(self) -> TrialRecord | None:
        """Return a trial of a configuration that was not tried; None if there seems to be none."""
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
        """Return a trial that repeats one of the front with another seed, until all have their seeds."""
        if self.config.search.seeds == 1:
            return None
        for first in self.history.front():
            runs = [run for run in self.history.alike(first) if not run.retry_of]
            if len(runs) < self.config.search.seeds:  # those that failed count, or there might be no end
                seed = 1 + max(run.seed for run in runs)
                record = TrialRecord(
                    self.history.next_id(), first.config, first.memory, seed=seed, repeat_of=first.trial_id
                )
                self.history.add(record)
                return record
        return None

    def _try_alone(self, first: TrialRecord) -> None:
        """Queue a trial that ran out of memory once more, with a device to itself."""
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
        """Take up what the store holds."""
        self.recorder.restore()
        self.answers.restore()
        for record in self.history.trials.values():
            # A trial's last checkpoint is known before its end: the interruption may lie in between.
            if record.status is Status.RUNNING and len(record.epochs) < self.config.trial.epochs:
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
        # Nobody knows whose memory it was: anyone's who, for all we know, was on the same node.
        return any(
            None in (record.node, other.node) or record.node == other.node for other in record.neighbours
        )
