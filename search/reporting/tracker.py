"""Records a search in MLflow: one parent run for the search, one child run for each trial."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from search.backends.base import Material
from search.config import SearchConfig
from search.config.address import VARIABLE
from search.records.history import History, TrialRecord
from search.reporting.front_models import LARGEST, FrontModel
from search.reporting.mlflow_note import Note
from search.reporting.news import About, Final, Snapshot, front_members, table_text
from search.reporting.outbox import Outbox
from trainables.disk import size_text


@contextmanager
def mlflow_imported() -> Iterator[None]:
    """Import MLflow in a thread, which takes seconds, while the block waits for other things."""
    thread = threading.Thread(target=_import_mlflow, name="import of MLflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import_mlflow() -> None:
    logger = logging.getLogger("mlflow")
    level = logger.level
    import_module("search.reporting.mlflow_writer")
    logger.setLevel(level)  # MLflow sets its own


class Tracker:
    """Writes a search to MLflow in its own thread, so that the search never waits for MLflow.

    A new tracker only opens the experiment. Runs are found, created and changed from the first ``begin`` on,
    for which the history must be complete.

    The parent run holds the settings that differ from their defaults as parameters, all settings with what
    they were resolved to and the environment in ``settings.json``, the hypervolume over time, the front as
    table and picture, and the nodes with the versions that they run as a table. Each run has the dataset, the
    user and the command line that it comes from. Each child run
    holds one trial: its parameters, every objective in each epoch, predicted memory with its parts, at the
    end what is known about its luck, and these tags (a probe has such a run, too):

    - ``front``: true or false; the filter ``tags.front = "true"`` selects the front.
    - ``kind``, ``status``: as in ``TrialRecord``.
    - ``infeasible``: true if the trial ran out of memory.
    - ``stage``, ``message``: where and how it ended, if it has no result.
    - ``node_ip``, ``hostname``, ``device``: where it ran last.
    - ``ran_on``: which epochs ran where, if it has moved.
    - ``legs``, ``failures``: how often it was handed out, and how often it was restarted.
    - ``retry_of``, ``retried_as``: the other trial's id, if a configuration was tried again alone.
    - ``repeat_of``: the first trial's id, if its configuration was trained again with another seed. The run
      then has the seed as a parameter.

    Each model of the front is a logged model of its trial's run, with the run's parameters and metrics, and
    the tags ``front``, ``trial_id`` and ``paretofuse.search_id``. It is written after all else. A model whose
    trial has left the front keeps its logged model, with ``front`` false.

    At most one snapshot of each trial waits to be written. The tags ``paretofuse.search_id`` and ``trial_id``
    identify a run. A search that was resumed, or whose request for a run got no answer, finds the existing
    run by them. Each metric carries the time at which it was reported, so MLflow keeps it once even if it is
    written twice. The parameters of a run are written once, because MLflow does not let them change.

    Args:
        config: The search's settings.
        history: The search's trials.
        details: What the settings were resolved to: sizes, fingerprints.
        search_id: Unique id of the search; a resumed search keeps it.
        warn: Called from the thread with one line about each outage, and about each write that is skipped.
        copied_from: Id of the search that this one is a copy of, or None. It becomes the tag
            ``paretofuse.copied_from``, and the run of that search ``paretofuse.copied_from_run``.
        nodes: Returns the rows of the table of nodes as it is now, see ``NodeTable``.
        material: What the trials learn from; the dataset of every run. None if MLflow is not told.

    Raises:
        UserError: If credentials are missing, the address is of an unknown kind, the database cannot be
            opened, or the server refuses. A server that does not answer raises nothing.
    """

    def __init__(
        self,
        config: SearchConfig,
        history: History,
        details: Mapping[str, Any],
        search_id: str,
        warn: Callable[[str], None],
        copied_from: str | None = None,
        nodes: Callable[[], list[dict[str, Any]]] = list,
        material: Material | None = None,
    ) -> None:
        from search.reporting.mlflow_writer import MlflowWriter  # only a search waits for MLflow

        self._history = history
        self._warn = warn
        self._nodes = nodes
        self._records: dict[str, TrialRecord] = {}
        self._retried: dict[str, str] = {}
        self._outbox = Outbox()
        self._told = 0  # points that are in the outbox, or have left it
        about = About.of(config, details, search_id, copied_from, material)
        address = config.tracking.address.with_credentials()
        self._writer = MlflowWriter(
            address, config.tracking.experiment, about, self._outbox, self._note_run, warn
        )
        self._writer.start()
        if address.origin == VARIABLE:
            warn(f"MLflow: {address}, from {VARIABLE}")

    @property
    def parent_id(self) -> str | None:
        """MLflow's id of the parent run; None until the server has answered."""
        return self._writer.parent_id

    @property
    def page(self) -> str | None:
        """The address of the experiment's runs on MLflow's pages; None until the server has answered."""
        return self._writer.page

    def begin(self) -> None:
        """Find or create the search's run, and queue its nodes, and all that the history holds."""
        self.note_nodes()
        for record in self._records_now():
            self.update(record)
        self.progress()
        self._writer.begin()

    def started(self, record: TrialRecord) -> None:
        """Queue the start of a trial, and nodes that have joined, for MLflow."""
        self.note_nodes()
        self.update(record)

    def reported(self, record: TrialRecord) -> None:
        """Queue a trial's report for MLflow."""
        self.update(record)

    def ended(self, record: TrialRecord) -> None:
        """Queue the end of a trial, and the progress of the search, for MLflow."""
        self.update(record)
        self.progress()

    def update(self, record: TrialRecord) -> None:
        """Queue the current state of a trial for MLflow."""
        if record.retry_of and record.retry_of not in self._retried:
            self._retried[record.retry_of] = record.trial_id
            self.update(self._history.trials[record.retry_of])
        trial_id = record.trial_id
        self._records[trial_id] = record
        earlier = self._outbox.trials.get(trial_id)
        self._outbox.put(Snapshot.of(record, time.time(), earlier, self._retried.get(trial_id)))

    def progress(self) -> None:
        """Queue the progress of the search for MLflow: the front, and the points that were not queued."""
        points = self._history.points[self._told :]
        self._told += len(points)
        self._outbox.put_standing(front_members(self._history), points)

    def note_nodes(self) -> None:
        """Queue the table of nodes for MLflow."""
        if rows := self._nodes():
            self._outbox.put_nodes(table_text(rows))

    def wait(self, patience: float = 10.0) -> None:
        """Wait up to ``patience`` seconds until MLflow holds all trials; return if the server is away."""
        self._writer.wait(patience)

    def close(
        self,
        status: str,
        tables: Mapping[str, list[dict[str, Any]]],
        picture: Path | None,
        patience: float = 30.0,
        verdict: str | None = None,
        models: Mapping[str, Path] | None = None,
        note: Note | None = None,
    ) -> bool:
        """Write all that is left and close the parent run; before ``begin``, write nothing.

        Args:
            status: ``FINISHED``, ``KILLED`` (interrupted) or ``FAILED``.
            tables: Rows of trials by the artifact's name.
            picture: A picture file to attach, or None.
            patience: Seconds to wait for MLflow; anything not written by then is dropped.
            verdict: What the front means, in a sentence; the parent run's tag ``verdict``.
            models: Folders of the front's models, which are MLflow models, too, by trial. Each becomes a
                logged model of its trial's run. One of more than ``LARGEST`` bytes is named in a warning, and
                left out.
            note: The parent run's description.

        Returns:
            Whether MLflow took everything.
        """
        self.note_nodes()
        for record in self._records_now():
            self.update(record)
        self.progress()
        final = Final.of(self._history, status, tables, picture, time.time(), verdict, note)
        self._outbox.put_final(final, self._front_models(models or {}))
        return self._writer.close(patience)

    def _records_now(self) -> list[TrialRecord]:
        """Return all that has a run of its own."""
        return [*self._history.probes.values(), *self._history.trials.values()]

    def _front_models(self, folders: Mapping[str, Path]) -> list[FrontModel]:
        found = []
        for trial_id, folder in folders.items():
            model = FrontModel(Snapshot.of(self._records[trial_id], time.time()), folder)
            if model.size > LARGEST:
                self._warn(
                    f"MLflow: the model in {folder} has {size_text(model.size)}, and is not copied there"
                )
            else:
                found.append(model)
        return found

    def _note_run(self, trial_id: str, run_id: str) -> None:
        """Note the id of a trial's run; called from the thread."""
        self._records[trial_id].run_id = run_id
