"""The one place that takes what happens to trials; whoever wants to know of it listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from search.records.history import History, TrialRecord
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.schedulers import Rule


class Listener(Protocol):
    """Hears of a trial once history, rule and store know of the same."""

    def started(self, record: TrialRecord) -> None:
        """Hear that a worker has begun with a trial."""

    def reported(self, record: TrialRecord) -> None:
        """Hear that a trial has reported an epoch, or how it ended."""

    def ended(self, record: TrialRecord) -> None:
        """Hear that a trial's status is settled."""


class Recorder:
    """Takes each result once, and passes it on in this order: history, rule, store, listeners.

    Args:
        history: The trials.
        rule: Decides which trials go on.
        store: Where trials are kept.
        epochs: Epochs of a complete trial.

    Attributes:
        listeners: Who hears of it, in this order.
    """

    def __init__(self, history: History, rule: Rule, store: SearchStore, epochs: int) -> None:
        self.history = history
        self.rule = rule
        self.store = store
        self.epochs = epochs
        self.listeners: list[Listener] = []

    def start(self, tune_id: str, worker: str) -> None:
        """Note which worker has begun with a trial.

        Args:
            tune_id: Ray Tune's id of the trial, or of this leg of it.
            worker: Ray's id of the actor.
        """
        record = self.history.leg(tune_id)
        record.worker = worker
        for listener in self.listeners:
            listener.started(record)

    def report(self, tune_id: str, result: Mapping[str, Any]) -> bool:
        """Take what a trial reported; return whether the rule lets it go on.

        A trial that does not go on has the status ``PAUSED`` or ``STOPPED``. What a trial reports last is not
        in the store before its checkpoint is, or its end: a search that is interrupted in between has the
        epoch trained again.
        """
        record = self.history.leg(tune_id)
        self.history.note(record, result)
        goes_on = self._goes_on(record, int(result.get("epoch", 0)))
        if goes_on and record.ending is None and len(record.epochs) < self.epochs:
            self.keep(record)
        for listener in self.listeners:
            listener.reported(record)
        return goes_on

    def save(self, tune_id: str, checkpoint: Any) -> None:
        """Note where a trial's latest checkpoint lies, and keep what it reported last."""
        record = self.history.leg(tune_id)
        record.checkpoint = checkpoint
        self.keep(record)

    def fail(self, tune_id: str, message: str, ending: Ending | None = None, node: str | None = None) -> None:
        """Note what went wrong with a trial, before it starts again or ends.

        Args:
            tune_id: Ray Tune's id.
            message: One line.
            ending: How the trial ended, if it is not to start again.
            node: Address of the worker's node; None if it is not known.
        """
        record = self.history.leg(tune_id)
        record.message = message
        if ending is not None:
            record.ending, record.node = ending, node

    def restart(self, tune_id: str) -> None:
        """Count that a trial starts again after an error or the death of its worker."""
        record = self.history.leg(tune_id)
        record.failures += 1

    @contextmanager
    def end(self, record: TrialRecord, *, error: bool) -> Iterator[None]:
        """Settle how a trial ended. What is done inside is written with it or not at all.

        Listeners hear of it last.

        Args:
            record: The trial.
            error: Whether it ended in an error.
        """
        with self.store.transaction():
            if record.ending is not None:
                record.message = record.ending.sentence
            self.history.settle(record, self._status(record, error=error))
            yield
            record.neighbours = []
            self.keep(record)
            self.store.put_facts({"reference": self.history.reference})
        for listener in self.listeners:
            listener.ended(record)

    def keep(self, record: TrialRecord) -> None:
        """Write what is known of a trial."""
        with self.store.transaction():
            self.store.put_trial(record.trial_id, record.to_dict())
            if record.epochs:
                self.store.put_epoch(record.trial_id, len(record.epochs), record.epochs[-1])

    def restore(self) -> None:
        """Take up the trials that the store holds."""
        for trial_id, document, epochs in self.store.trials():
            record = TrialRecord.from_dict(trial_id, document, epochs)
            self.history.add(record)
            for epoch in range(1, len(epochs) + 1):
                self._tell_rule(record, epoch)

    def _goes_on(self, record: TrialRecord, epoch: int) -> bool:
        """Ask the rule about a trial's latest epoch; an earlier one that was trained again is not judged."""
        if not epoch or epoch < len(record.epochs) or record.repeat_of is not None:
            return True
        self._tell_rule(record, epoch)
        if epoch not in self.rule.milestones or self.rule.goes_on(record.trial_id, epoch):
            return True
        record.status = Status.PAUSED if self.rule.pauses else Status.STOPPED
        return False

    def _tell_rule(self, record: TrialRecord, epoch: int) -> None:
        if record.repeat_of is None:
            self.rule.note(record.trial_id, epoch, self.history.losses(record.values_at(epoch)))

    def _status(self, record: TrialRecord, *, error: bool) -> Status:
        if record.ending is not None:
            return record.ending.status
        if error:
            return Status.FAILED
        if len(record.epochs) >= self.epochs:
            return Status.FINISHED
        # The rule says which, or else the trial was stopped from outside
        return record.status if record.status is Status.PAUSED else Status.STOPPED
