"""The history of a search: trials, infeasible candidates, front and hypervolume."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS, EPISODES_THIS_ITER, TIMESTEPS_THIS_ITER

from search.goals.constraints import Constraint
from search.goals.luck import Luck
from search.goals.objectives import Objective, known_values, late_reference, normalised
from search.goals.pareto import Front, dominates, hypervolume
from search.records.points import Point
from search.records.status import Ending, Status
from search.records.stays import HOSTNAME, NODE_IP, Stay, machine
from search.records.store import SearchStore
from trainables.memory import MemoryReport

#: Names of the numbers that Ray Tune adds to a trial's report.
_TUNES_OWN = frozenset((*AUTO_RESULT_KEYS, EPISODES_THIS_ITER, TIMESTEPS_THIS_ITER))


def canonical(config: Mapping[str, Any]) -> str:
    """Return a text that is the same for equal configurations."""
    return json.dumps(config, sort_keys=True)


def reported_numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a result that the trial itself reported, without those that Ray Tune adds."""
    return {
        name: float(value)
        for name, value in result.items()
        if isinstance(value, Real) and not isinstance(value, bool) and name not in _TUNES_OWN
    }


#: Key of the metrics on the test split in a trial's report.
TEST = "test_split"
#: Key of the same metrics with each modality taken away.
ROBUSTNESS = "robustness"
#: Key of the outputs to keep in a trial's last report, by split.
OUTPUTS = "outputs"

#: Kind and name of the probe of all modalities.
PROBE = "probe"

#: Attributes of a trial that are stored unchanged.
_KEPT = (
    "config",
    "number",
    "status",
    "seed",
    "alone",
    "retry_of",
    "repeat_of",
    "legs",
    "failures",
    "run_id",
    "scored",
    "test",
    "robustness",
    "inherited",
    "message",
    "kind",
    "checkpoint",
    "model",
)


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        trial_id: The trial's name: ``trial-000``, ``trial-001``, … in the order of creation.
        config: The configuration.
        memory: Predicted memory.
        number: Number of the sampler's proposal; None for repeats and retries.
        status: The trial's status.
        seed: Seed of the initial weights and of the order of samples.
        alone: Whether the trial has a device, or a node's memory, to itself.
        retry_of: Name of the trial that this one retries because memory ran out, or None.
        repeat_of: Name of the trial that this one repeats with another seed, or None.
        legs: How often the trial was handed to Ray Tune: again after each pause or interruption of the
            search.
        epochs: Results of each epoch so far; ``time`` is when it was reported, in seconds since 1970.
        failures: How often the trial was restarted after an error or the death of its worker.
        ending: How the trial ended without a result; None otherwise, and for errors.
        stays: Where the trial ran: one entry, and another one for each time that it moved.
        node: Address of the node that the trial last reported from, or None.
        hostname: Name of the same node, or None.
        worker: Ray's id of the actor that runs the trial, or None.
        neighbours: Trials that were running or waiting at the same time.
        run_id: MLflow's id of the child run; None until it exists.
        scored: Metrics on the test split that the trial's worker has found. They count, as ``test``, only if
            the trial is chosen in the end.
        test: Metrics on the test split, for members of the front and the best of each method.
        robustness: Metrics on the test split with each modality taken away, by modality, if they are known.
            They count if ``test`` does.
        inherited: Metrics before training, with weights inherited from a supernet; empty without one.
        message: What happened, if the trial did not finish.
        kind: ``trial``, ``supernet`` for the training of a supernet, or ``probe`` for a linear model.
        checkpoint: Path of the latest checkpoint in the search's folder, or None.
        model: Path of the model's folder in the search's folder, or None. Members of the front have one after
            a search, and probes as soon as they are known.
        expected: Expected memory of the trial's steps where this search runs it; None until it is asked for.
        luck: What is known about the luck of the trial's configuration, for reports; None before they are
            made.
        key: The configuration as text.
    """

    trial_id: str
    config: dict[str, Any]
    memory: MemoryReport
    number: int | None = None
    status: Status = Status.RUNNING
    seed: int = 0
    alone: bool = False
    retry_of: str | None = None
    repeat_of: str | None = None
    legs: int = 0
    epochs: list[dict[str, float]] = field(default_factory=list)
    failures: int = 0
    ending: Ending | None = None
    stays: list[Stay] = field(default_factory=list)
    node: str | None = None
    hostname: str | None = None
    worker: str | None = None
    neighbours: list[TrialRecord] = field(default_factory=list, repr=False, compare=False)
    run_id: str | None = None
    scored: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    robustness: dict[str, dict[str, float]] = field(default_factory=dict)
    inherited: dict[str, float] = field(default_factory=dict)
    message: str = ""
    kind: str = "trial"
    checkpoint: str | None = None
    model: str | None = None
    expected: MemoryReport | None = field(default=None, compare=False)
    luck: Luck | None = field(default=None, compare=False)
    key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key = canonical(self.config)

    @property
    def machine(self) -> str:
        """Name and address of the machine that the trial last reported from."""
        return machine(self.hostname, self.node)

    @property
    def memory_error(self) -> float | None:
        """Relative error of measured tensors against expected ones; None if they were not measured.

        Expected are those of a trial as this search runs it, on the device that it runs on. They are fewer
        than those of the configuration's memory, because the search skips unused outputs and caches the
        frozen layers' output.
        """
        return self._error("measured_memory", "expected_memory")

    @property
    def reserved_error(self) -> float | None:
        """The same of what the allocator reserves; None if the trial did not run on a GPU."""
        return self._error("reserved_memory", "expected_reserved")

    def _error(self, measured: str, expected: str) -> float | None:
        for epoch in self.epochs:
            if {measured, expected, "measured_memory"} <= set(epoch):
                return epoch[measured] / epoch[expected] - 1
        return None

    @property
    def values(self) -> dict[str, float]:
        """The latest value of every metric, and the values that are known without training."""
        return self.values_at(len(self.epochs))

    def values_at(self, epoch: int) -> dict[str, float]:
        """Return the values after an epoch (1 is the first), and those that are known without training."""
        return {**(self.epochs[epoch - 1] if epoch else {}), **known_values(self.memory)}

    def to_dict(self) -> dict[str, Any]:
        """Return the trial without its epochs, as a JSON document to store."""
        return {
            **{name: getattr(self, name) for name in _KEPT},
            "memory": asdict(self.memory),
            "ending": self.ending.to_dict() if self.ending else None,
            "stays": [stay.to_dict() for stay in self.stays],
        }

    @classmethod
    def from_dict(
        cls, trial_id: str, document: Mapping[str, Any], epochs: list[dict[str, float]]
    ) -> TrialRecord:
        """Return the trial that ``to_dict`` described."""
        changed = {
            "memory": MemoryReport(**document["memory"]),
            "status": Status(document["status"]),
            "ending": Ending.from_dict(document["ending"]) if document["ending"] else None,
            "stays": [Stay(**stay) for stay in document.get("stays", ())],
        }
        return cls(trial_id=trial_id, epochs=epochs, **{**document, **changed})


@dataclass(frozen=True)
class Infeasible:
    """A candidate that was never started, because it breaks a constraint known before training."""

    config: dict[str, Any]
    memory: MemoryReport


class History:
    """All trials and candidates of a search.

    Args:
        objectives: The objectives by which trials are compared.
        reference: See ``search.goals.objectives.reference_values``.
        constraints: Constraints that members of the front satisfy.
        reported: Objectives that reports show for every trial, in addition to ``objectives``.

    Attributes:
        probes: The probes by name: ``probe`` reads all modalities, ``probe:text`` one of them. They may be on
            the front, and count as no trials.
        best_probe: The best probe of all modalities over all ways of reading the encoders, or None. It is
            never on the front.
        inherited: Metrics of configurations with weights inherited from a supernet, by ``canonical`` text.
        points: The search's progress after each end of a trial.
    """

    def __init__(
        self,
        objectives: tuple[Objective, ...],
        reference: Mapping[str, float],
        constraints: tuple[Constraint, ...] = (),
        reported: tuple[Objective, ...] = (),
    ) -> None:
        self.objectives = objectives
        #: Objectives that reports show for every trial.
        self.shown = tuple({o.name: o for o in (*reported, *objectives)}.values())
        self.reference = dict(reference)
        self.constraints = constraints
        self.inherited: dict[str, dict[str, float]] = {}
        self.trials: dict[str, TrialRecord] = {}
        self.probes: dict[str, TrialRecord] = {}
        self.best_probe: TrialRecord | None = None
        self.infeasible: dict[str, Infeasible] = {}
        self.points: list[Point] = []
        self._legs: dict[str, TrialRecord] = {}
        self._by_config: dict[str, list[TrialRecord]] = {}
        self._by_number: dict[int, TrialRecord] = {}
        self._front: Front[str] = Front()

    def add(self, record: TrialRecord) -> None:
        """Add a trial."""
        record.inherited = record.inherited or self.inherited.get(record.key, {})
        self.trials[record.trial_id] = record
        self._by_config.setdefault(record.key, []).append(record)
        if record.number is not None:
            self._by_number[record.number] = record
        if record.status is Status.FINISHED:
            self._rank(record)

    def restore(self, store: SearchStore) -> None:
        """Read the trials, the progress and the reference values from a store; nothing is written.

        Raises:
            UserError: If the store is damaged.
        """
        with store.restoring():
            self.reference |= store.fact("reference") or {}
            self.points += map(Point.from_dict, store.points())
            for trial_id, document, epochs in store.trials():
                self.add(TrialRecord.from_dict(trial_id, document, epochs))
            probes = [TrialRecord.from_dict(**probe) for probe in store.fact("probes") or ()]
            if probes:
                self.take_probes(probes)

    def take_probes(self, probes: Sequence[TrialRecord]) -> None:
        """Take the probes; the last one is the best over all ways of reading the encoders."""
        self.probes = {probe.trial_id: probe for probe in probes[:-1]}
        self.best_probe = probes[-1]

    def probe_facts(self) -> dict[str, Any]:
        """Return the probes as facts to store."""
        probes = [*self.probes.values(), *([self.best_probe] if self.best_probe else [])]
        return {
            "probes": [
                {"trial_id": probe.trial_id, "document": probe.to_dict(), "epochs": probe.epochs}
                for probe in probes
            ]
        }

    def asked_as(self, number: int) -> TrialRecord | None:
        """Return the trial of the sampler's numbered proposal, or None."""
        return self._by_number.get(number)

    def next_id(self) -> str:
        """Return the name of the next trial."""
        return f"trial-{len(self.trials):03d}"

    def start_leg(self, record: TrialRecord, tune_id: str) -> None:
        """Note the id under which Ray Tune runs a trial from now on."""
        record.legs += 1
        self._legs[tune_id] = record

    def leg(self, tune_id: str) -> TrialRecord:
        """Return the trial that Ray Tune runs, or ran, under an id."""
        return self._legs[tune_id]

    def note(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Add a trial's report: an epoch, or how it ended; the same report twice changes nothing."""
        record.node = result.get(NODE_IP, record.node)
        record.hostname = result.get(HOSTNAME, record.hostname)
        record.ending = Ending.from_result(result) or record.ending
        record.scored = dict(result.get(TEST, record.scored))
        record.robustness = dict(result.get(ROBUSTNESS, record.robustness))
        numbers = reported_numbers(result)
        if numbers.get("epoch", 0) > len(record.epochs):
            record.epochs.append({**numbers, "time": time.time()})
            stay = Stay.of_report(result, len(record.epochs))
            if stay is not None and (not record.stays or record.stays[-1].place != stay.place):
                record.stays.append(stay)

    def settle(self, record: TrialRecord, status: Status) -> None:
        """Set the status of a trial that ended; a finished one may extend the front."""
        record.status = status
        if status is Status.FINISHED:
            for objective in self.objectives:
                if objective.name not in self.reference:
                    late = late_reference(objective, record.values)
                    self.reference |= {} if late is None else {objective.name: late}
            self._rank(record)

    def mark(self) -> Point:
        """Add the search's progress now to ``points``, and return it."""
        self.points.append(Point.of(self, time.time()))
        return self.points[-1]

    def close(self) -> bool:
        """Mark running and paused trials as stopped; return whether any was running."""
        running = self.by_status(Status.RUNNING)
        for record in (*running, *self.by_status(Status.PAUSED)):
            record.status = Status.STOPPED
        return bool(running)

    def by_status(self, status: Status) -> list[TrialRecord]:
        """Return the trials of a status, in the order of creation."""
        return [record for record in self.trials.values() if record.status is status]

    def find(self, config: Mapping[str, Any]) -> TrialRecord | None:
        """Return the latest trial of a configuration that is no repeat, or None."""
        known = reversed(self._by_config.get(canonical(config), []))
        return next((record for record in known if record.repeat_of is None), None)

    def alike(self, record: TrialRecord) -> list[TrialRecord]:
        """Return all trials of a trial's configuration, including the trial itself."""
        return self._by_config.get(record.key, [record])

    def finished(self, record: TrialRecord) -> list[TrialRecord]:
        """Return the finished trials of a trial's configuration: one for each seed."""
        return [other for other in self.alike(record) if other.status is Status.FINISHED]

    def configurations(self) -> list[TrialRecord]:
        """Return the first finished trial of each configuration that has one."""
        runs = (self.finished(alike[0]) for alike in self._by_config.values())
        return [finished[0] for finished in runs if finished]

    def best_run(self, record: TrialRecord) -> TrialRecord:
        """Return the trial of a configuration whose weights count: of several seeds, the best on validation.

        They are compared by ``trained_objective``. Those without a checkpoint are left out, unless none has
        one.
        """
        runs, objective = self.finished(record) or [record], self.trained_objective
        kept = [run for run in runs if run.checkpoint is not None] or runs[:1]
        return min(kept, key=lambda run: objective.loss(run.values[objective.name])) if kept[1:] else kept[0]

    def values(self, record: TrialRecord) -> dict[str, float]:
        """Return a configuration's values: means over its finished trials, one for each seed."""
        runs = self.finished(record)
        if len(runs) < 2:
            return (runs[0] if runs else record).values
        return _across([run.values for run in runs], statistics.fmean)

    def spreads(self, record: TrialRecord) -> dict[str, float]:
        """Return standard deviations over a configuration's finished trials; empty if fewer than two."""
        runs = [run.values for run in self.finished(record)]
        return _across(runs, statistics.stdev) if len(runs) > 1 else {}

    def front(self, *, probes: bool = True) -> list[TrialRecord]:
        """Return one finished trial of each configuration that no other one dominates, and such probes.

        Means over seeds are compared. A configuration that breaks a constraint is not on the front. The front
        is sorted by its losses, the first objective first; equal members are in the order of creation.

        Args:
            probes: Whether probes count. What is proposed must not depend on them.
        """
        members = self._front.members
        for probe in self.rival_probes() if probes else ():
            if any(violation > 0 for violation in self.violations(probe.values).values()):
                continue
            losses = self.losses(probe.values)
            if not any(dominates(other, losses) for _, other in members):
                members = [member for member in members if not dominates(losses, member[1])]
                members.append((probe.trial_id, losses))
        members = sorted(members, key=lambda member: (member[1], len(member[0]), member[0]))
        return [self.trials.get(trial_id) or self.probes[trial_id] for trial_id, _ in members]

    def rival_probes(self) -> list[TrialRecord]:
        """Return the probes that lack no value and break no constraint that is known before training."""
        return [
            probe
            for probe in self.probes.values()
            if not self.lacking(probe)
            and all(c.violation(probe.values) <= 0 for c in self.constraints if c.known)
        ]

    def lacking(self, probe: TrialRecord) -> list[str]:
        """Return the objectives and constraints for which a probe has no value, e.g. the time of a step.

        It cannot be on the front then.
        """
        names = dict.fromkeys([*(o.name for o in self.objectives), *(c.name for c in self.constraints)])
        return [name for name in names if name not in probe.values]

    @property
    def trained_objective(self) -> Objective:
        """The first objective that is decided by training, or else the first objective."""
        return next((o for o in self.objectives if not o.known), self.objectives[0])

    def best_of_methods(self) -> list[TrialRecord]:
        """Return the configuration of each method that is best in ``trained_objective``, best first."""
        objective = self.trained_objective
        ordered = sorted(self.configurations(), key=lambda r: objective.loss(self.values(r)[objective.name]))
        best: dict[str, TrialRecord] = {}
        for record in ordered:
            best.setdefault(record.config["method"], record)
        return list(best.values())

    def best_found(self) -> TrialRecord | None:
        """Return the trial within the constraints that is best in the first objective with a test value.

        Probes do not count. None if there is no such trial or objective.
        """
        objective = next((o for o in self.objectives if o.tested), None)
        found = self.front(probes=False)
        if objective is None or not found:
            return None
        return min(found, key=lambda record: objective.loss(self.values(record)[objective.name]))

    def scored(self) -> list[TrialRecord]:
        """Return what is scored on the test split: the front, the best of each method, and ``best_found``."""
        best = self.best_found()
        chosen = [*self.front(), *self.best_of_methods(), *([] if best is None else [best])]
        return list({record.trial_id: record for record in chosen}.values())

    def hypervolume(self) -> float:
        """Return the share (0 to 1) of the box from the ideal to the reference that the front dominates."""
        points = [normalised(self.objectives, self.reference, self.values(r)) for r in self.front()]
        return hypervolume(points, [1.0] * len(self.objectives))

    def best(self) -> dict[str, float]:
        """Return the best value of each objective on the front."""
        front = [self.values(record) for record in self.front()]
        return {o.name: min((v[o.name] for v in front), key=o.loss) for o in self.objectives if front}

    def losses(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """Return the objectives' values as losses: those to maximise are negated."""
        return tuple(o.loss(values[o.name]) for o in self.objectives)

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return each constraint's violation, if its value is known; <= 0 means that it is satisfied."""
        return {str(c): c.violation(values) for c in self.constraints if c.name in values}

    def _rank(self, record: TrialRecord) -> None:
        """Compare a finished trial with the front, and add it if no member dominates it."""
        firsts = [record]
        if len(self.finished(record)) > 1:  # its configuration's means have changed
            firsts = self.configurations()
            self._front = Front()
        for first in firsts:
            values = self.values(first)
            if all(violation <= 0 for violation in self.violations(values).values()):
                self._front.add(first.trial_id, self.losses(values))


def _across(runs: list[dict[str, float]], statistic: Callable[[list[float]], float]) -> dict[str, float]:
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: statistic([run[name] for run in runs]) for name in names}
