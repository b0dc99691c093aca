"""Actors that evaluate subnets with the supernet's weights."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayError

from search.engine.gate import Gate
from search.execution.room import LOOK, Room
from search.execution.survival import diagnose, notes_folder
from search.nodes import NodeError, cause_of, node_named
from search.placement import Share
from search.units import GIB
from trainables.configuration import split_config
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.memory.memo import PredictionMemo
from trainables.step.precision import default_device, device_computes_in_bf16
from trainables.supernet.evaluation import SubnetEvaluator
from trainables.trial.device import require_cuda
from trainables.trial.watchdog import Watchdog
from trainables.trial.workbench import TrialSpec, Workbench

#: Subnets that an actor gets at once.
_CHUNK = 3
#: Bytes of sequences that an actor keeps, to share them among subnets with equal lower layers.
_STATES = GIB


@dataclass(frozen=True)
class EvaluationJob:
    """A job for the actors that evaluate subnets; it is sent to other machines.

    Attributes:
        spec: The settings that all trials share.
        rows: See ``SubnetEvaluator``.
        gate: Subnets that it finds infeasible are not evaluated.
        share: The share of a device that each actor gets.
        precision: ``auto``, or as ``SubnetEvaluator`` takes it.
        inference: See ``MemoryPredictor``.
    """

    spec: TrialSpec
    rows: int
    gate: Gate
    share: Share
    precision: str
    inference: bool


@dataclass(frozen=True)
class Answer:
    """An actor's result for a subnet; ``metrics`` is empty if the subnet breaks a constraint."""

    memory: MemoryReport
    violations: dict[str, float]
    metrics: dict[str, float]


class SubnetActor:
    """Evaluates subnets in its own process.

    Args:
        job: What it is to do.
        weights: The supernet's weights.
        notes: Name of the folder in which it leaves a note if it hangs; see ``notes_folder``.
    """

    def __init__(self, job: EvaluationJob, weights: SupernetWeights, notes: str) -> None:
        spec = job.spec
        self._watchdog = Watchdog(notes_folder(notes), spec.hang_timeout)
        self._watchdog.start()
        self._mistake: NodeError | None = None
        try:
            with self._watchdog.watching(), node_named():
                if job.share.on_gpu:
                    require_cuda()
                self._build(job, weights)
                self._predictor = MemoryPredictor(
                    spec.sources(),
                    self._bench.task,
                    spec.setting,
                    memo=PredictionMemo(),
                    inference=job.inference,
                )
        except NodeError as error:  # of one that is raised here, the driver would get nothing but a text
            self._mistake = error

    def _build(self, job: EvaluationJob, weights: SupernetWeights) -> None:
        spec, precision = job.spec, job.precision
        self._gate = job.gate
        tick = self._watchdog.tick
        self._bench = Workbench(spec, torch.device(default_device()), job.share.threads, tick)
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
            self._bench, setting, supernet, rows=job.rows, states=_STATES, precision=precision
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
        job: What the actors are to do.
        weights: The supernet's weights.
        size: Number of actors.
        failures: How many deaths of actors are accepted.
        say: Called with a message for each of them, and when they wait for room.
    """

    def __init__(
        self,
        job: EvaluationJob,
        weights: SupernetWeights,
        size: int,
        failures: int,
        say: Callable[[str], None],
    ) -> None:
        made = ray.remote(SubnetActor).options(**job.share.options())
        self._make = partial(made.remote, job, ray.put(weights))
        self.size = size
        self._failures = failures
        self._say = say
        self._share = job.share
        self._room = Room(say, "an evaluation of subnets", may_run=True)
        self._patience = job.spec.hang_timeout
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


def _failed(error: NodeError) -> NodeError:
    return NodeError(f"evaluating subnets failed: {cause_of(error)}")
