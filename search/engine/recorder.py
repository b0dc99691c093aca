"""The one place that records what happens to trials, and tells its listeners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from search.records.history import History, TrialRecord
from search.records.outputs import KeptOutputs
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.schedulers import Rule
from trainables.trial.outputs import Outputs


class Listener(Protocol):
    """Hears of an event of a trial after history, rule and store have recorded it."""

    def started(self, record: TrialRecord) -> None:
        """Hear that a worker has started a trial."""

    def reported(self, record: TrialRecord) -> None:
        """Hear that a trial has reported an epoch, or how it ended."""

    def ended(self, record: TrialRecord) -> None:
        """Hear that a trial's status is settled."""


class Recorder:
    """Records each result once, and passes it on in this order: history, rule, store, listeners.

    Args:
        history: The trials.
        rule: Decides which trials continue.
        store: Where trials are kept.
        outputs: Where outputs of finished trials are kept.
        epochs: Epochs of a complete trial.

    Attributes:
        listeners: Called after each event, in this order.
    """

    def __init__(
        self, history: History, rule: Rule, store: SearchStore, outputs: KeptOutputs, epochs: int
    ) -> None:
        self.history = history
        self.rule = rule
        self.store = store
        self.outputs = outputs
        self.epochs = epochs
        self.listeners: list[Listener] = []

    def start(self, tune_id: str, worker: str) -> None:
        """Note which worker has started a trial.

        Args:
            tune_id: Ray Tune's id of the trial, or of this leg of it.
            worker: Ray's id of the actor.
        """
        record = self.history.leg(tune_id)
        record.worker = worker
        for listener in self.listeners:
            listener.started(record)

    def report(
        self, tune_id: str, result: Mapping[str, Any], outputs: Mapping[str, Outputs] | None = None
    ) -> bool:
        """Record what a trial reported; return whether the rule lets the trial continue.

        A trial that does not continue has the status ``PAUSED`` or ``STOPPED``. The last report of a trial is
        stored only with its checkpoint or its end. If the search is interrupted before that, the epoch is
        trained again.

        Args:
            tune_id: Ray Tune's id.
            result: The report.
            outputs: Outputs to keep, by split; the last report has them.
        """
        record = self.history.leg(tune_id)
        for split, kept in (outputs or {}).items():
            self.outputs.write(record.trial_id, split, kept)
        self.history.note(record, result)
        record.message = result.get("remark", record.message)
        goes_on = self._goes_on(record, int(result.get("epoch", 0)))
        if goes_on and record.ending is None and len(record.epochs) < self.epochs:
            self.keep(record)
        for listener in self.listeners:
            listener.reported(record)
        return goes_on

    def save(self, tune_id: str, checkpoint: str) -> None:
        """Note where a trial's latest checkpoint is, and store the trial's last report.

        Args:
            tune_id: Ray Tune's id.
            checkpoint: Path of the checkpoint in the search's folder.
        """
        record = self.history.leg(tune_id)
        if record.ending is not None:  # Ray Tune has saved it once more, but it had nothing to save
            return
        record.checkpoint = checkpoint
        self.keep(record)

    def fail(
        self,
        tune_id: str,
        message: str,
        ending: Ending | None = None,
        node: str | None = None,
        hostname: str | None = None,
    ) -> None:
        """Note what went wrong with a trial, before the trial is restarted or ends.

        Args:
            tune_id: Ray Tune's id.
            message: One line.
            ending: How the trial ended; None if it is to be restarted.
            node: Address of the worker's node; None if it is not known.
            hostname: Name of the same node; None if it is not known.
        """
        record = self.history.leg(tune_id)
        record.message = message
        if ending is not None:
            record.ending, record.node, record.hostname = ending, node, hostname

    def restart(self, tune_id: str) -> None:
        """Count a restart of a trial after an error or the death of its worker."""
        record = self.history.leg(tune_id)
        record.failures += 1

    @contextmanager
    def end(self, record: TrialRecord, *, error: bool) -> Iterator[None]:
        """Settle how a trial ended, in one transaction with the body of the ``with`` statement.

        The listeners are called after the transaction.

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
            self.store.put_point(self.history.mark().to_dict())
        for listener in self.listeners:
            listener.ended(record)

    def keep(self, record: TrialRecord) -> None:
        """Write a trial and its latest epoch to the store."""
        with self.store.transaction():
            self.store.put_trial(record.trial_id, record.to_dict())
            if record.epochs:
                self.store.put_epoch(record.trial_id, len(record.epochs), record.epochs[-1])

    def catch_up(self) -> None:
        """Tell the rule about the epochs of the trials that the history holds."""
        for record in self.history.trials.values():
            for epoch in range(1, len(record.epochs) + 1):
                self._tell_rule(record, epoch)

    def _goes_on(self, record: TrialRecord, epoch: int) -> bool:
        """Return whether the rule lets a trial continue; epochs that were trained again are not judged."""
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
        # The rule has set PAUSED or STOPPED, or else the trial was stopped from outside.
        return record.status if record.status is Status.PAUSED else Status.STOPPED
