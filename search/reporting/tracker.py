"""MLflow: one parent run a search, one child run a trial, the front tagged; written beside the search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from search.config import SearchConfig
from search.records.history import History, TrialRecord
from search.reporting.mlflow_writer import MlflowWriter, Outbox
from search.reporting.news import About, Final, Point, Snapshot, front_members


class Tracker:
    """Has a search written to MLflow, by a thread of its own: the search never waits for it.

    The parent run holds the search's settings, environment, dataset fingerprint, the hypervolume over time
    and the front as table and picture. Each child holds one trial: parameters, every objective each epoch,
    predicted memory with its parts, and tags: ``front`` (true or false), so that the filter
    ``tags.front = "true"`` leaves the front; ``kind`` and ``status``, as in ``TrialRecord``; ``infeasible``,
    true if it ran out of memory; ``stage`` and ``message``, what happened where; ``legs``, how often it was
    handed out; ``failures``, how often it was started again; ``retry_of`` and ``retried_as``, a trial's id,
    where a configuration was tried again alone; ``repeat_of``, a trial's id, where its configuration was
    trained again with another seed, which is a parameter then.

    At most one snapshot a trial waits to be written. The tags ``paretofuse.search_id`` and ``trial_id`` say
    whose a run is, so that a search that goes on, or that did not hear the answer to its request for a run,
    takes up the run that is there. Metrics carry the time at which they were reported: MLflow keeps one that
    is written twice once. Parameters of a run that has some are left alone; MLflow does not let them change.

    Args:
        config: The search's settings.
        history: Its trials; those that it holds already are written, too.
        details: More parameters of the parent: what was resolved (sizes, fingerprints).
        search_id: What tells this search from all others, and stays when it is resumed.
        warn: Told, in one line each, of outages and of what MLflow refuses; called from the thread.

    Raises:
        UserError: If the address is wrong: of an unknown kind, of a database that cannot be opened, of a
            server that refuses. A server that does not answer is no mistake.
    """

    def __init__(
        self,
        config: SearchConfig,
        history: History,
        details: Mapping[str, Any],
        search_id: str,
        warn: Callable[[str], None],
    ) -> None:
        self._history = history
        self._records: dict[str, TrialRecord] = {}
        self._retried: dict[str, str] = {}
        self._outbox = Outbox()
        about = About.of(config, details, search_id)
        self._writer = MlflowWriter(
            config.tracking.tracking_uri,
            config.tracking.experiment,
            about,
            self._outbox,
            self._note_run,
            warn,
        )
        for record in history.trials.values():
            self.update(record)
        self._outbox.put_standing(front_members(history))
        self._writer.start()

    @property
    def parent_id(self) -> str | None:
        """MLflow's id of the parent run; None until the server has answered."""
        return self._writer.parent_id

    def started(self, record: TrialRecord) -> None:
        """Have it written that a trial was started."""
        self.update(record)

    def reported(self, record: TrialRecord) -> None:
        """Have it written what a trial reported."""
        self.update(record)

    def ended(self, record: TrialRecord) -> None:
        """Have it written how a trial ended, and how the search stands now."""
        self.update(record)
        self.progress()

    def update(self, record: TrialRecord) -> None:
        """Have a trial written as it is now."""
        if record.retry_of and record.retry_of not in self._retried:
            self._retried[record.retry_of] = record.trial_id
            self.update(self._history.trials[record.retry_of])
        trial_id = record.trial_id
        self._records[trial_id] = record
        earlier = self._outbox.trials.get(trial_id)
        self._outbox.put(Snapshot.of(record, time.time(), earlier, self._retried.get(trial_id)))

    def progress(self) -> None:
        """Have it written how the search stands: counts, front and hypervolume."""
        point = Point.of(self._history, time.time())
        self._outbox.put_standing(front_members(self._history), point)

    def wait(self, patience: float = 10.0) -> None:
        """Wait until MLflow holds what it was told so far, so that runs have ids; not if it is away."""
        self._writer.wait(patience)

    def close(
        self,
        status: str,
        tables: Mapping[str, list[dict[str, Any]]],
        picture: Path | None,
        patience: float = 30.0,
    ) -> bool:
        """Write all that is left and close the parent run.

        Args:
            status: ``FINISHED``, ``KILLED`` (interrupted) or ``FAILED``.
            tables: Rows of trials by the artifact's name.
            picture: A file to attach, or None.
            patience: Seconds to wait for MLflow; what is not written by then, is not.

        Returns:
            Whether MLflow took everything.
        """
        for record in self._history.trials.values():
            self.update(record)
        self._outbox.put_standing(front_members(self._history))
        self._outbox.put_final(Final.of(self._history, status, tables, picture, time.time()))
        return self._writer.close(patience)

    def _note_run(self, trial_id: str, run_id: str) -> None:
        """Tell a trial which run is its own; called from the thread."""
        self._records[trial_id].run_id = run_id
