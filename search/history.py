"""What a search has seen: trials, infeasible candidates, front and hypervolume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.objectives import Objective, normalised
from search.pareto import hypervolume, non_dominated
from search.units import GIB
from trainables.memory import MemoryReport

#: What a trial reports each epoch and history keeps.
REPORTED = (
    "epoch",
    "train_loss",
    "epoch_seconds",
    "setup_seconds",
    "validation_seconds",
    "expected_memory",
    "measured_memory",
    "reserved_memory",
    "accuracy",
    "macro_f1",
    "loss",
)

#: Statuses of trials that came to an end of their own without a result, and what to call it.
UNFINISHED = {"out_of_memory": "out of memory", "diverged": "diverged", "failed": "failed"}


def canonical(config: Mapping[str, Any]) -> str:
    """Return the one text that equal configurations share."""
    return json.dumps(config, sort_keys=True)


@dataclass(frozen=True)
class Ending:
    """How a trial ended that has no result.

    Attributes:
        status: ``out_of_memory`` or ``diverged``.
        stage: Where: ``building``, ``training``, ``validation`` or ``checkpoint``; empty if nobody knows.
        message: The first line of the error.
        below_share: Whether the trial had less memory than it was granted, so that others were in its way;
            None if that cannot be known.
    """

    status: str
    stage: str
    message: str
    below_share: bool | None = None


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        trial_id: Ray Tune's id.
        config: The configuration.
        memory: Its predicted memory.
        status: ``running``; ``finished``, after all epochs; ``out_of_memory``; ``diverged``, if a loss or
            metric became infinite or not a number; ``failed``, after an error or the death of its worker, and
            as many new starts as are allowed; ``retried``, if it ran out of memory beside others and its
            configuration was handed out once more; ``stopped``, if the search ended first.
        alone: Whether it has a device, or a node's memory, to itself.
        retry_of: Id of the trial whose configuration it takes up, or None.
        epochs: Results of each epoch so far.
        failures: Times that it was started again after an error or the death of its worker.
        ending: How it ended, unless with a result or in an error.
        node: Address of the node it last reported from, or None.
        worker: Ray's id of the actor that runs it, or None.
        neighbours: Trials that ran, or waited to, at a time when it did.
        run_id: MLflow's id of the child run.
        test: Metrics on the test split, for members of the front.
        message: What happened, if it did not finish.
        checkpoint: Ray's handle on the latest checkpoint.
    """

    trial_id: str
    config: dict[str, Any]
    memory: MemoryReport
    status: str = "running"
    alone: bool = False
    retry_of: str | None = None
    epochs: list[dict[str, float]] = field(default_factory=list)
    failures: int = 0
    ending: Ending | None = None
    node: str | None = None
    worker: str | None = None
    neighbours: list[TrialRecord] = field(default_factory=list, repr=False, compare=False)
    run_id: str | None = None
    test: dict[str, float] = field(default_factory=dict)
    message: str = ""
    checkpoint: Any = None

    @property
    def memory_error(self) -> float | None:
        """How far the memory that the trial took is from what it was expected to take, relative to that.

        Expected is what the search itself takes: it does not compute what nobody reads and takes the frozen
        layers' output from a cache, so that this is less than the memory that a configuration stands for.
        """
        for epoch in self.epochs:
            if {"expected_memory", "measured_memory"} <= set(epoch):
                return epoch["measured_memory"] / epoch["expected_memory"] - 1
        return None

    @property
    def values(self) -> dict[str, float]:
        """The latest value of every metric, and of what is known without training."""
        latest = self.epochs[-1] if self.epochs else {}
        return {
            **latest,
            "memory": self.memory.total / GIB,
            "params": float(self.memory.trainable_parameters),
        }


@dataclass(frozen=True)
class Infeasible:
    """A candidate that was never started: its predicted memory exceeds the budget."""

    config: dict[str, Any]
    memory: MemoryReport


class History:
    """All trials and candidates of a search.

    Args:
        objectives: What is compared.
        reference: See ``search.objectives.reference_values``.
    """

    def __init__(self, objectives: tuple[Objective, ...], reference: Mapping[str, float]) -> None:
        self.objectives = objectives
        self.reference = dict(reference)
        self.trials: dict[str, TrialRecord] = {}
        self.infeasible: dict[str, Infeasible] = {}
        self._by_config: dict[str, TrialRecord] = {}

    def add(self, record: TrialRecord) -> None:
        """Take up a trial that starts."""
        self.trials[record.trial_id] = record
        self._by_config[canonical(record.config)] = record

    def rename(self, record: TrialRecord, trial_id: str) -> None:
        """Give a trial another id."""
        del self.trials[record.trial_id]
        record.trial_id = trial_id
        self.trials[trial_id] = record

    def note(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take up what a trial reported: an epoch, or how it ended; hearing it twice changes nothing."""
        record = self.trials[trial_id]
        record.node = result.get("node_ip", record.node)
        if "status" in result:
            named = {name: result[name] for name in ("status", "stage", "message", "below_share")}
            record.ending = Ending(**named)
        epochs = record.epochs
        numbers = {name: float(result[name]) for name in REPORTED if name in result}
        if numbers.get("epoch", 0) > len(epochs):
            epochs.append(numbers)

    def by_status(self, status: str) -> list[TrialRecord]:
        """Return the trials of a status, in the order they were started."""
        return [record for record in self.trials.values() if record.status == status]

    def find(self, config: Mapping[str, Any]) -> TrialRecord | None:
        """Return the trial of a configuration, if there was one."""
        return self._by_config.get(canonical(config))

    def front(self) -> list[TrialRecord]:
        """Return the finished trials that no other one dominates, best first objective first."""
        finished = self.by_status("finished")
        losses = [[o.loss(r.values[o.name]) for o in self.objectives] for r in finished]
        members = [(losses[i], finished[i]) for i in non_dominated(losses)]
        return [record for _, record in sorted(members, key=lambda member: member[0])]

    def best_of_methods(self) -> list[TrialRecord]:
        """Return the finished trial of each method that is best in the first objective training decides."""
        trained = [o for o in self.objectives if o.name not in ("memory", "params")]
        objective = (*trained, *self.objectives)[0]
        ordered = sorted(self.by_status("finished"), key=lambda r: objective.loss(r.values[objective.name]))
        best: dict[str, TrialRecord] = {}
        for record in ordered:
            best.setdefault(record.config["method"], record)
        return list(best.values())

    def hypervolume(self) -> float:
        """Return the share, 0 to 1, of the box from the reference to the ideal point that is dominated."""
        points = [normalised(self.objectives, self.reference, r.values) for r in self.by_status("finished")]
        return hypervolume(points, [1.0] * len(self.objectives))

    def best(self) -> dict[str, float]:
        """Return the best value of each objective among finished trials."""
        finished = self.by_status("finished")
        if not finished:
            return {}
        return {o.name: min((r.values[o.name] for r in finished), key=o.loss) for o in self.objectives}
