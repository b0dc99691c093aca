"""The searcher: what is tried next, with memory known before a trial starts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray.tune.search import Searcher

from search.config import SearchConfig
from search.engine.gate import Assessment, Gate
from search.engine.recorder import Recorder
from search.engine.study import DurableStudy
from search.goals.objectives import KNOWN, known_values, normalised
from search.goals.pareto import hypervolume
from search.placement import Placement, Share
from search.records.history import History, Infeasible, TrialRecord, canonical
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.samplers import make_sampler
from search.samplers.common import DEVICE_MEMORY, LACKING
from search.samplers.ehvi import HypervolumeSampler, Outlook
from search.schedulers import Rule
from search.units import GIB
from spaces import Space, SpaceContext, Trial
from spaces.grid import count, enumerate_space
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.trial.assignment import Assignment

#: Proposals of the sampler in a row that may be repeats or infeasible before others are drawn past it …
MAX_REJECTED = 100
#: … and draws in a row before a space that cannot be counted is taken for exhausted.
MAX_DRAWS = 400
#: With ``defer``: proposals in a row that may be put off …
MAX_DEFERRED = 10
#: … which, if they were this much better than the best so far (as a share of the objective's range), …
MARGIN = 0.05
#: … would add less than this to the hypervolume.
LEAST_GAIN = 0.01
#: Configurations up to which a space is counted.
MAX_COUNTED = 10_000


@dataclass(frozen=True)
class Prior:
    """What another search found.

    Attributes:
        points: Parameter values to try first.
        results: Parameter values of finished trials, with the objectives' values.
    """

    points: Sequence[Mapping[str, Any]] = ()
    results: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]] = ()


class ParetoSearcher(Searcher):
    """Asks Optuna for candidates, gates them by what is known of them and tells Optuna what came of them.

    A candidate whose memory (or parameters, or checkpoint) breaks a constraint is told to Optuna as
    infeasible and never started. A configuration that was tried before is answered from history and never
    trained twice, with two exceptions: one that ran out of memory while others were in its way is handed out
    once more, alone, without counting as another sample; and with ``config.seeds`` above 1 those on the front
    are repeated with other seeds once no samples are left.

    What Optuna is told of trials that did not run all epochs is comparable with nothing that did, so it never
    stands beside it: a trial that the scheduler paused or stopped is told with its values and a violated
    constraint, ``unfinished``, the share of its epochs that is missing. Samplers rank what violates
    constraints behind all that does not, and by how much: as Optuna's own samplers rank pruned trials where
    there is one objective. One that goes on later is taken back until it ends. Trials that ran out of memory
    or diverged are told as infeasible, those that ended in an error as failed, which samplers do not see.

    All that is needed to go on after an interruption is in the store before Ray Tune hears of it. Samples are
    counted here: Ray Tune must be given ``num_samples=-1``, or it would count retries.

    Args:
        config: The search's settings.
        space: The space.
        context: The encoders' depths and widths.
        predictor: Predicts memory.
        history: Filled with trials and infeasible candidates; it comes empty.
        placement: What trials are given.
        store: Where all is kept; a search that it holds already is gone on with.
        rule: Decides which trials go on.
        prior: What another search found.

    Attributes:
        exhausted: Whether the space holds no further feasible configuration.
    """

    def __init__(
        self,
        config: SearchConfig,
        space: Space,
        context: SpaceContext,
        predictor: MemoryPredictor,
        history: History,
        placement: Placement,
        store: SearchStore,
        rule: Rule,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.space = space
        self.context = context
        self.predictor = predictor
        self.history = history
        self.placement = placement
        self.store = store
        self.rule = rule
        self.recorder = Recorder(history, rule, store, config.epochs)
        self.exhausted = False
        self.gate = Gate.of(history.constraints, placement, predictor, cached=config.feature_cache)
        self._open: dict[str, TrialRecord] = {}  # by Tune's trial id
        self._shares: dict[str, Share] = {}  # what they were given
        self._waiting: deque[TrialRecord] = deque()  # to be handed out before anything new
        prior = prior or Prior()
        resumed = store.fact("sampler") is not None
        self.study = DurableStudy(
            store,
            history.objectives,
            lambda: make_sampler(config.sampler, config.num_samples, config.seed),
            [*space.first_points(context), *prior.points],
            config.seed,
        )
        if isinstance(self.study.sampler, HypervolumeSampler):
            self.study.sampler.attach(self._outlook())
        with store.transaction():
            if resumed:
                self._restore()
            else:
                self._learn(prior)
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
                self._tell(record)
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
            record.expected = self.gate.expected(record.config, self.predictor)
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
    def samples(self) -> int:
        """Samples handed out so far."""
        return sum(record.number is not None for record in self.history.trials.values())

    def _next(self) -> TrialRecord | None:
        """Return the trial to hand out next: one that was begun, else a new one."""
        if self._waiting:
            return self._waiting.popleft()
        busy = {record.trial_id for record in self._open.values()}  # paused ones too, until they have saved
        paused = [record for record in self.history.by_status(Status.PAUSED) if record.trial_id not in busy]
        promoted = self.rule.promote({record.trial_id: len(record.epochs) for record in paused})
        if promoted is not None:
            record = self.history.trials[promoted]
            number = self._asked_as(record)
            if number is not None:
                self.study.reopen(number)
            return record
        if self.samples < self.config.num_samples and not self.exhausted:
            found = self._ask()
            if found is not None:
                number, config, assessment = found
                record = TrialRecord(
                    self.history.next_id(),
                    config,
                    assessment.memory,
                    number=number,
                    seed=self.config.seed,
                    expected=assessment.expected,
                )
                self.history.add(record)
                return record
            self.exhausted = True
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

    def _ask(self) -> tuple[int, dict[str, Any], Assessment] | None:
        """Find a candidate that is new and keeps to what is known; None if there seems to be none."""
        for attempt in range(MAX_REJECTED):
            found = self._proposal()
            if found is None:
                continue
            if not self.config.defer or attempt >= MAX_DEFERRED or self._promises(found[2].memory):
                return found
            self.study.fail(found[0])  # nothing came of it, for now: it may be proposed again
        if count(self.space, self.context, MAX_COUNTED) is not None:
            return self._any_left()
        with self.study.at_random():
            for _ in range(MAX_DRAWS):
                found = self._proposal()
                if found is not None:
                    return found
        return None

    def _proposal(
        self, point: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any], Assessment] | None:
        """Ask once; None if the answer is known already or breaks a constraint."""
        trial = self.study.ask(point)
        config = self.space.sample(trial, self.context)
        known = self.history.find(config)
        if known is not None:
            self._answer(trial.number, known)
            return None
        found = self.gate.assess(config, self.predictor)
        if found.feasible:
            return trial.number, config, found
        report = found.memory
        self.history.infeasible[canonical(config)] = Infeasible(config, report)
        self.study.describe(trial.number, "infeasible", {"config": config, "memory": asdict(report)})
        self._tell_all(trial.number, self._worst(report), found.violations)
        return None

    def _outlook(self) -> Outlook:
        """What a sampler may know of candidates before it proposes one."""
        objectives = self.history.objectives

        def losses(values: Mapping[str, float]) -> tuple[float, ...]:
            return normalised(objectives, self.history.reference, values)

        def draw(trial: Trial) -> dict[str, Any]:
            return self.space.sample(trial, self.context)

        def known(config: dict[str, Any]) -> dict[str, float] | None:
            if self.history.find(config) is not None or canonical(config) in self.history.infeasible:
                return None
            found = self.gate.assess(config, self.predictor)
            return known_values(found.memory) if found.feasible else None

        def runs(number: int) -> list[list[tuple[float, ...]]]:
            first = self.history.asked_as(number)
            if first is None:
                return []
            return [
                [losses(run.values_at(epoch)) for epoch in range(1, len(run.epochs) + 1)]
                for run in self.history.alike(first)
            ]

        names = [o.name for o in objectives]
        exact = [name in KNOWN for name in names]
        return Outlook(names, exact, self.config.epochs, losses, draw, known, runs)

    def _promises(self, memory: MemoryReport) -> bool:
        """Whether a result a little better than all so far would make a candidate worth its memory."""
        objectives, reference = self.history.objectives, self.history.reference
        front = [self.history.values(record) for record in self.history.front()]
        if not front:
            return True
        points = [normalised(objectives, reference, values) for values in front]
        known = known_values(memory)
        best = {o.name: min((v[o.name] for v in front), key=o.loss) for o in objectives}
        hoped = normalised(objectives, reference, {**best, **known})
        hoped = tuple(
            loss if o.name in KNOWN else loss - MARGIN for o, loss in zip(objectives, hoped, strict=True)
        )
        ones = [1.0] * len(objectives)
        return hypervolume([*points, hoped], ones) - hypervolume(points, ones) >= LEAST_GAIN

    def _any_left(self) -> tuple[int, dict[str, Any], Assessment] | None:
        """Return a configuration of a space that can be counted which was not tried yet, if there is one."""
        left = [
            member.values
            for member in enumerate_space(self.space, self.context)
            if self.history.find(member.config) is None
            and canonical(member.config) not in self.history.infeasible
        ]
        random.Random(self.config.seed * 1_000_003 + len(self.study)).shuffle(left)
        return next(filter(None, map(self._proposal, left)), None)

    def _repeat(self) -> TrialRecord | None:
        """Return a trial that repeats one of the front with another seed, until all have their seeds."""
        if self.config.seeds == 1:
            return None
        for first in self.history.front():
            runs = [run for run in self.history.alike(first) if not run.retry_of]
            if len(runs) < self.config.seeds:  # those that failed count, or there might be no end
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

    def _tell(self, record: TrialRecord) -> None:
        """Tell Optuna how a trial did, under the number that it was asked for."""
        number = self._asked_as(record)
        if number is not None:
            self._answer(number, record)

    def _asked_as(self, record: TrialRecord) -> int | None:
        """Return the number under which the sampler was asked for a trial, or for the one that it retries."""
        return self.history.trials[record.retry_of].number if record.retry_of else record.number

    def _answer(self, number: int, record: TrialRecord) -> None:
        """Tell Optuna, under a number, how a configuration did."""
        missing = 1 - len(record.epochs) / self.config.epochs
        # One that failed after it had been paused was told already, and cannot become unseen.
        told = self.study.frozen(number).values is not None
        partial = bool(record.epochs) and (record.status in (Status.PAUSED, Status.STOPPED) or told)
        ended = (Status.FINISHED, Status.OUT_OF_MEMORY, Status.DIVERGED)
        if record.status not in ended and not partial:
            self.study.fail(number)
            return
        violations = dict(self.gate.assess(record.config, self.predictor, record.memory).violations)
        if record.status is Status.OUT_OF_MEMORY:
            # How much was missing is unknown. With all that it takes as the answer, larger ones are worse.
            violations[DEVICE_MEMORY] = record.memory.total / GIB
        if record.status is Status.FINISHED or partial:
            violations |= {**self.history.violations(record.values), LACKING: missing}
            values = [record.values[o.name] for o in self.history.objectives]
        else:
            violations[LACKING] = float(record.status is Status.DIVERGED)
            values = self._worst(record.memory)
        self._tell_all(number, values, violations)

    def _tell_all(self, number: int, values: Sequence[float], violations: Mapping[str, float]) -> None:
        """Tell all constraints of each trial: some samplers want the same ones of all."""
        names = [*map(str, self.history.constraints), DEVICE_MEMORY, LACKING]
        self.study.tell(number, values, {**dict.fromkeys(names, 0.0), **violations})

    def _learn(self, prior: Prior) -> None:
        """Tell Optuna of another search's finished trials."""
        for point, values in prior.results:
            trial = self.study.ask(point)
            self.space.sample(trial, self.context)
            self._tell_all(trial.number, [values[o.name] for o in self.history.objectives], {})

    def _restore(self) -> None:
        """Take up what the store holds."""
        self.recorder.restore()
        for number in range(len(self.study)):
            candidate = self.study.frozen(number).user_attrs.get("infeasible")
            if candidate:
                report = MemoryReport(**candidate["memory"])
                self.history.infeasible[canonical(candidate["config"])] = Infeasible(
                    candidate["config"], report
                )
        for record in self.history.trials.values():
            # A trial's last checkpoint is known before its end: the interruption may lie in between.
            if record.status is Status.RUNNING and len(record.epochs) < self.config.epochs:
                self._waiting.append(record)
            elif record.status is Status.RUNNING:
                self.history.settle(record, Status.FINISHED)
                self._tell(record)
                self.recorder.keep(record)
            elif record.status in (Status.PAUSED, Status.STOPPED):
                asked = self._asked_as(record)
                if asked is not None and not self.study.frozen(asked).state.is_finished():
                    self._tell(record)

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

    def _worst(self, memory: MemoryReport) -> list[float]:
        """Values for a candidate without a result: what is known, the reference for the rest."""
        known = known_values(memory)
        reference = self.history.reference
        return [known.get(o.name, reference.get(o.name, 0.0)) for o in self.history.objectives]
