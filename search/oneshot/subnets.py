"""The search of a supernet's subnets: evolution on the metrics that they reach with inherited weights."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import ray
import torch
from optuna.samplers import BaseSampler
from ray.exceptions import RayActorError, RayError

from search.config import SearchConfig
from search.engine.candidates import Candidate, Candidates
from search.engine.gate import Gate
from search.engine.study import DurableStudy
from search.execution.room import LOOK, Room
from search.execution.survival import diagnose, notes_folder
from search.goals.objectives import known_values
from search.goals.pareto import non_dominated
from search.goals.ranking import priority
from search.nodes import NodeError, cause_of, node_named
from search.placement import Share
from search.records.history import canonical
from search.records.store import SearchStore
from search.samplers import make_sampler
from search.samplers.common import DEVICE_MEMORY
from search.samplers.evolution import EvolutionSampler
from search.setup import Setup
from search.units import GIB
from spaces.subnets import draw_member
from trainables.configuration import split_config
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.memory.memo import PredictionMemo
from trainables.seeds import derive_seed, short_seed
from trainables.step.precision import default_device, device_computes_in_bf16
from trainables.supernet.evaluation import SubnetEvaluator
from trainables.trial.device import require_cuda
from trainables.trial.watchdog import Watchdog
from trainables.trial.workbench import TrialSpec, Workbench

#: Subnets that are proposed together, from the results of all earlier ones.
GENERATION = 25
#: Subnets that an actor gets at once.
_CHUNK = 3
#: Name of the constraint that a subnet with a metric that is not finite breaks.
_DIVERGED = "diverged"
#: Bytes of sequences that an actor keeps, to share them among subnets with equal lower layers.
_STATES = GIB


@dataclass(frozen=True)
class Evaluated:
    """A subnet and what is known about it.

    Attributes:
        number: Number of its proposal.
        values: Values of the space's parameters.
        config: The configuration.
        memory: Predicted memory of training it on its own.
        metrics: Metrics with inherited weights on the validation split; empty if the subnet breaks a
            constraint, or if one of them is not finite.
        violations: By how much it breaks each constraint that is known before training.
        sampled: Whether it belongs to the random sample.
    """

    number: int
    values: dict[str, Any]
    config: dict[str, Any]
    memory: MemoryReport
    metrics: dict[str, float]
    violations: dict[str, float]
    sampled: bool

    @property
    def known(self) -> dict[str, float]:
        """The known values of the objectives."""
        return {**self.metrics, **known_values(self.memory)}

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes to store, without the number and the parameter values."""
        names = ("config", "metrics", "violations", "sampled")
        return {**{name: getattr(self, name) for name in names}, "memory": asdict(self.memory)}


@dataclass(frozen=True)
class Answer:
    """An actor's result for a subnet; ``metrics`` is empty if the subnet breaks a constraint."""

    memory: MemoryReport
    violations: dict[str, float]
    metrics: dict[str, float]


class SubnetActor:
    """Evaluates subnets in its own process.

    Args:
        spec: The settings that all trials share.
        weights: The supernet's weights.
        rows: See ``SubnetEvaluator``.
        gate: Subnets that it finds infeasible are not evaluated.
        threads: CPU threads to use.
        precision: ``auto``, or as ``SubnetEvaluator`` takes it.
        inference: See ``MemoryPredictor``.
        notes: Name of the folder in which it leaves a note if it hangs; see ``notes_folder``.
        on_gpu: Whether it was given a share of a GPU.
    """

    def __init__(
        self,
        spec: TrialSpec,
        weights: SupernetWeights,
        rows: int,
        gate: Gate,
        threads: int,
        precision: str,
        inference: bool,
        notes: str,
        on_gpu: bool,
    ) -> None:
        self._watchdog = Watchdog(notes_folder(notes), spec.hang_timeout)
        self._watchdog.start()
        self._mistake: NodeError | None = None
        try:
            with self._watchdog.watching(), node_named():
                if on_gpu:
                    require_cuda()
                self._build(spec, weights, rows, gate, threads, precision)
                self._predictor = MemoryPredictor(
                    spec.sources(),
                    self._bench.task,
                    spec.setting,
                    memo=PredictionMemo(),
                    inference=inference,
                )
        except NodeError as error:  # of one that is raised here, the driver would get nothing but a text
            self._mistake = error

    def _build(
        self,
        spec: TrialSpec,
        weights: SupernetWeights,
        rows: int,
        gate: Gate,
        threads: int,
        precision: str,
    ) -> None:
        self._gate = gate
        tick = self._watchdog.tick
        self._bench = Workbench(spec, torch.device(default_device()), threads, tick)
        setting = spec.setting.as_run(cached=spec.feature_cache > 0)
        if precision == "fp32":
            setting = replace(setting, precision=precision)
        elif setting.precision != "fp32":
            precision = setting.precision
        elif precision == "auto" and not device_computes_in_bf16(self._bench.device.type):
            precision = "fp32"
        else:
            precision = "bf16"
        supernet = weights.supernet(self._bench.context(setting)).to(self._bench.device)
        self.precision = precision
        self._evaluator = SubnetEvaluator(
            self._bench, setting, supernet, rows=rows, states=_STATES, precision=precision
        )

    def evaluate(self, configs: Sequence[dict[str, Any]]) -> list[Answer]:
        """Return the answers for subnets, in the given order.

        Raises:
            NodeError: If a user's mistake keeps the actor from its work, e.g. a dataset that its node lacks.
        """
        self._require_built()
        with self._watchdog.watching(), node_named():
            return [self._answer(config) for config in configs]

    def shared(self) -> tuple[int, int]:
        """Return the numbers of stages that were run and of stages that were reused."""
        return self._evaluator.stages_run, self._evaluator.stages_shared

    def runs_in(self) -> str:
        """Return the precision of the subnets' forward passes.

        Raises:
            NodeError: See ``evaluate``.
        """
        self._require_built()
        return self.precision

    def _require_built(self) -> None:
        if self._mistake is not None:
            raise self._mistake

    def _answer(self, config: dict[str, Any]) -> Answer:
        known = self._gate.assess(config, self._predictor)
        self._watchdog.tick()
        fields = split_config(config)[1]
        metrics = self._evaluator.evaluate(fields, self._watchdog.tick) if known.feasible else {}
        return Answer(known.memory, known.violations, metrics)


class SubnetPool:
    """Actors that evaluate subnets in parallel, each with the supernet's weights from Ray's object store.

    An actor that dies, or that makes no progress and ends itself, is replaced, and its subnets are evaluated
    again.

    Args:
        spec: The settings that all trials share.
        weights: The supernet's weights.
        rows: See ``SubnetActor``.
        gate: Subnets that it finds infeasible are not evaluated.
        share: The share of a device that each actor gets.
        size: Number of actors.
        precision: See ``SubnetActor``.
        inference: See ``SubnetActor``.
        failures: How many deaths of actors are accepted.
        say: Called with a message for each of them, and when they wait for room.
    """

    def __init__(
        self,
        spec: TrialSpec,
        weights: SupernetWeights,
        rows: int,
        gate: Gate,
        share: Share,
        size: int,
        precision: str,
        inference: bool,
        failures: int,
        say: Callable[[str], None],
    ) -> None:
        made = ray.remote(SubnetActor).options(**share.options())
        kept = ray.put(weights)
        self.size = size
        threads, on_gpu = share.threads, share.on_gpu
        self._make = lambda notes: made.remote(
            spec, kept, rows, gate, threads, precision, inference, notes, on_gpu
        )
        self._failures = failures
        self._say = say
        self._share = share
        self._room = Room(say, "an evaluation of subnets", may_run=True)
        self._patience = spec.hang_timeout
        self._notes = [""] * size
        self._actors: list[Any] = [None] * size
        for place in range(size):
            self._start(place)

    def evaluate(self, configs: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each configuration, as soon as it is ready.

        Args:
            configs: Configurations, ordered so that those with the most in common are neighbours.

        Raises:
            UserError: If more actors die than ``failures`` accepts; or if a user's mistake keeps one from its
                work, a ``NodeError``.
        """
        numbered = enumerate(configs)
        running: dict[Any, tuple[int, list[tuple[int, dict[str, Any]]]]] = {}

        def give(place: int, chunk: list[tuple[int, dict[str, Any]]]) -> None:
            if chunk:
                answer = self._actors[place].evaluate.remote([config for _, config in chunk])
                running[answer] = place, chunk

        for place in range(self.size):
            give(place, list(islice(numbered, _CHUNK)))
        while running:
            done, _ = ray.wait(list(running), timeout=LOOK)
            if not done:
                self._room.wanted(self._share)
                continue
            self._room.found()
            (ready,) = done
            place, chunk = running.pop(ready)
            try:
                answers = ray.get(ready)
            except NodeError as error:
                raise _failed(error) from error
            except RayActorError as error:
                self._replace(place, error)
                give(place, chunk)
                continue
            give(place, list(islice(numbered, _CHUNK)))
            yield from zip((index for index, _ in chunk), answers, strict=True)

    def precision(self) -> str:
        """Return the precision of the subnets' forward passes.

        Raises:
            UserError: As ``evaluate``.
        """
        while True:
            try:
                found: str = ray.get(self._actors[0].runs_in.remote())
            except NodeError as error:
                raise _failed(error) from error
            except RayActorError as error:
                self._replace(0, error)
            else:
                return found

    def shared(self) -> float:
        """Return the share (0 to 1) of the subnets' stages that were reused, not run; 0 if nobody answers."""
        try:
            counts = ray.get([actor.shared.remote() for actor in self._actors], timeout=self._patience)
        except RayError:
            return 0.0
        run, there = (sum(column) for column in zip(*counts, strict=True))
        return there / (run + there) if there else 0.0

    def close(self) -> None:
        """End the actors, which frees their resources."""
        for actor in self._actors:
            ray.kill(actor)

    def _start(self, place: int) -> None:
        self._notes[place] = f"subnets-{uuid.uuid4().hex}"
        self._actors[place] = self._make(self._notes[place])

    def _replace(self, place: int, error: RayActorError) -> None:
        """Start another actor in place of one that died.

        Raises:
            UserError: If more actors have died than ``failures`` accepts.
        """
        reason = diagnose(str(error), str(notes_folder(self._notes[place]))).message
        self._failures -= 1
        if self._failures < 0:
            raise UserError(f"evaluating subnets failed: {reason}") from error
        self._say(f"an actor that evaluates subnets is replaced: {reason}")
        self._start(place)


class SubnetSearch:
    """Searches subnets, and stores the results after each generation.

    An interrupted search resumes with the proposals that it would have made. A configuration that is proposed
    again is answered from the known results.

    Args:
        setup: The setup of the search; its space is that of subnets.
        store: The subnets' store.
    """

    def __init__(self, setup: Setup, store: SearchStore) -> None:
        config = setup.config
        self.setup = setup
        self.store = store
        self.found: dict[str, Evaluated] = {}
        rng = random.Random(derive_seed(config.search.seed, "sample"))
        sample = [draw_member(setup.space, setup.context, rng) for _ in range(config.oneshot.tau_samples)]
        self._sample = {canonical(member.config) for member in sample}
        first = setup.space.first_points(setup.context)
        self.study = DurableStudy(
            store,
            setup.history.objectives,
            lambda planned: _sampler(config, planned),
            config.search.num_samples,
            [*(member.values for member in sample), *first],
            config.search.seed,
        )
        constraints = [*(str(c) for c in setup.history.constraints if c.known), DEVICE_MEMORY, _DIVERGED]
        self.candidates = Candidates(setup, self.study, constraints)
        with store.restoring():
            for number in range(len(self.study)):
                kept = self.study.frozen(number).user_attrs.get("subnet")
                if kept:
                    values, memory = self.study.frozen(number).params, MemoryReport(**kept["memory"])
                    subnet = Evaluated(number, values, **{**kept, "memory": memory})
                    self.found[canonical(subnet.config)] = subnet

    @property
    def exhausted(self) -> bool:
        """Whether the space holds no further subnets."""
        return self.candidates.exhausted

    @property
    def evaluated(self) -> list[Evaluated]:
        """Subnets that have metrics, in the order of proposals."""
        return [subnet for subnet in self.found.values() if subnet.metrics]

    @property
    def sample(self) -> list[Evaluated]:
        """The subnets of the random sample that have metrics."""
        return [subnet for subnet in self.evaluated if subnet.sampled]

    def run(self, pool: SubnetPool, heard: Callable[[int], None]) -> None:
        """Evaluate subnets until the planned number is reached or the space is exhausted.

        Args:
            pool: Evaluates the subnets.
            heard: Called after each result, with the number of evaluated subnets.
        """
        wanted = self.setup.config.search.num_samples
        while (before := len(self.evaluated)) < wanted and not self.exhausted:
            proposals = self.candidates.take(self, min(GENERATION, wanted - before))
            # The first parameters decide the lowest layers: sorted, neighbours have equal lowest layers.
            proposals.sort(key=lambda proposal: list(proposal.values.values()))
            answers: dict[int, Answer] = {}
            for index, answer in pool.evaluate([proposal.config for proposal in proposals]):
                answers[index] = answer
                heard(before + len(answers))
            with self.store.transaction():
                for index in sorted(answers, key=lambda index: proposals[index].number):
                    self._tell(proposals[index], answers[index])
                self.study.save()

    def front(self) -> list[Evaluated]:
        """Return the subnets that no other one dominates, compared with inherited weights."""
        subnets = self.evaluated
        return [subnets[index] for index in non_dominated(self._losses(subnets))]

    def finalists(self, count: int) -> list[Evaluated]:
        """Return the subnets that are worth training on their own.

        Members of the front come first, ordered so that they are far from each other, then the next rank.
        """
        subnets = self.evaluated
        return [subnets[index] for index in priority(self._losses(subnets))[:count]]

    def _losses(self, subnets: Sequence[Evaluated]) -> list[tuple[float, ...]]:
        return [self.setup.history.losses(subnet.known) for subnet in subnets]

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate that was not evaluated; the actors check its constraints."""
        if candidate.key not in self.found:
            return candidate
        self._answer(candidate.number, self.found[candidate.key])
        return None

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether a subnet was evaluated."""
        return canonical(config) in self.found

    def postpones(self, candidate: Candidate) -> bool:
        """Return False: evaluating a subnet is cheap, so none is put off."""
        return False

    def _tell(self, proposal: Candidate, answer: Answer) -> None:
        """Keep a result and tell it to Optuna."""
        metrics, violations = answer.metrics, dict(answer.violations)
        if not all(map(math.isfinite, metrics.values())):
            metrics, violations[_DIVERGED] = {}, 1.0
        sampled = proposal.key in self._sample
        subnet = Evaluated(
            proposal.number, proposal.values, proposal.config, answer.memory, metrics, violations, sampled
        )
        self.found[proposal.key] = subnet
        self.study.describe(subnet.number, "subnet", subnet.to_dict())
        self._answer(subnet.number, subnet)

    def _answer(self, number: int, subnet: Evaluated) -> None:
        """Tell Optuna how the subnet of a numbered proposal did; missing values are their references."""
        self.candidates.tell(number, subnet.known, subnet.violations)


def _failed(error: NodeError) -> NodeError:
    return NodeError(f"evaluating subnets failed: {cause_of(error)}")


def _sampler(config: SearchConfig, planned: int) -> BaseSampler:
    if (
        config.search.sampler == "evolution"
    ):  # children that keep a parent's lowest layers reuse its sequences
        return EvolutionSampler(GENERATION, short_seed(config.search.seed), keep_first=True)
    return make_sampler(config.search.sampler, planned, config.search.seed)
