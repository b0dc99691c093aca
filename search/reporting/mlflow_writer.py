"""A thread that writes the news of a search to MLflow, and survives outages of the server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from search.config.address import TrackingAddress
from search.reporting.mlflow_models import LoggedModels
from search.reporting.mlflow_runs import SearchRuns
from search.reporting.mlflow_server import Experiment, Mask, is_mistake, is_refusal, reason
from search.reporting.news import About, Final, Snapshot
from search.reporting.outbox import Outbox
from trainables.errors import UserError

_OPENING = 5.0  # seconds that the search waits to see whether the address is wrong
_ROUND = 1.0  # seconds between writes, so that one write takes all reports in between
_LONGEST = 30.0  # seconds between attempts to reach a server that does not answer
_ENDING = 5.0  # seconds that the end of the search's run may take, when not all is written
_TRIES = 5  # attempts at a write that fails although the server answers


class MlflowWriter:
    """Writes an outbox to MLflow, in its own thread.

    The thread compares MLflow with the outbox and writes the difference. While the server does not answer,
    the difference stays in the outbox. A write that the server refuses, or that fails ``_TRIES`` times
    although the server answers, is skipped, and the rest is written.

    Args:
        address: MLflow's address.
        experiment: The experiment's name.
        about: The search.
        outbox: The news to write.
        found: Called from the thread with each trial's name and the id of its run, once the run exists.
        warn: Called from the thread with one line about each outage, and about each write that is skipped.

    Attributes:
        parent_id: MLflow's id of the search's run; None until the server has answered.
        away: Whether the server did not answer the last request.
    """

    def __init__(
        self,
        address: TrackingAddress,
        experiment: str,
        about: About,
        outbox: Outbox,
        found: Callable[[str, str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.parent_id: str | None = None
        self.away = False
        self._address = address
        self._name = experiment
        self._about = about
        self._outbox = outbox
        self._found = found
        self._warn = warn
        self._experiment: Experiment | None = None
        self._runs: SearchRuns | None = None
        self._models: LoggedModels | None = None
        self._tries: Counter[str] = Counter()
        self._skipped: set[str] = set()

        self._mask = Mask(address)
        self._opened = threading.Event()
        self._begun = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._done = threading.Event()
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self._started = False
        self._mistake: Exception | None = None

    def start(self) -> None:
        """Start the thread, and wait up to ``_OPENING`` seconds to see whether the address is right.

        Raises:
            UserError: If the address is of an unknown kind, the database cannot be opened, or the server
                refuses. A server that does not answer raises nothing.
        """
        self._mask.put_on()
        threading.Thread(target=self._run, name="mlflow", daemon=True).start()
        self._opened.wait(_OPENING)
        with self._starting:
            self._started = True
        if self._mistake is not None:
            self._mask.take_off()
            why = reason(self._mistake, self._address)
            raise UserError(f"{self._address.origin} {self._address}: cannot be used ({why})")

    @property
    def page(self) -> str | None:
        """The address of the experiment's runs on MLflow's pages; None until the server has answered."""
        return self._experiment.page() if self._experiment is not None else None

    def begin(self) -> None:
        """Let the thread write; until then, it only opens the experiment."""
        self._begun.set()
        self._outbox.changed.set()

    def wait(self, patience: float) -> None:
        """Wait up to ``patience`` seconds until all trials are written; return if the server is away."""
        deadline = time.monotonic() + patience
        while (self._outbox.trials or self.parent_id is None) and time.monotonic() < deadline:
            if self.away:
                return
            self._outbox.changed.set()
            time.sleep(0.05)

    def close(self, patience: float) -> bool:
        """End the thread once everything is written; the outbox must hold the final news.

        Without ``begin``, there is nothing to write.

        Args:
            patience: Seconds to wait; anything not written by then is dropped.

        Returns:
            Whether MLflow took everything.
        """
        self._closing.set()
        self._outbox.changed.set()
        finished = not self._begun.is_set() or self._done.wait(patience)
        self._given_up.set()
        self._outbox.changed.set()
        self._ended.wait(0 if self.away else _ENDING)
        self._mask.take_off()
        return finished and not self._skipped

    # All methods below run in the thread.

    def _run(self) -> None:
        delay = _ROUND
        while self._outbox.changed.wait() and not self._given_up.is_set():
            self._outbox.changed.clear()
            try:
                left = self._write()
                delay, self.away = _ROUND, False
            except Exception as error:
                self._note_mistake(error)
                if not self.away and self._mistake is None:
                    why = reason(error, self._address)
                    self._warn(
                        f"MLflow does not answer ({why}); the search goes on, and what it finds is written "
                        "once MLflow does"
                    )
                left, delay, self.away = True, min(2 * delay, _LONGEST), True
            self._opened.set()
            if self._done.is_set() or self._mistake is not None:
                self._ended.set()
                return
            if left:
                self._outbox.changed.set()
            if not self._closing.is_set():
                self._closing.wait(delay)
            elif left:
                self._given_up.wait(min(delay, 1.0))
        self._end_anyway()

    def _end_anyway(self) -> None:
        """Close the search's run, although not everything is written; nobody goes on to write to it."""
        _, final = self._outbox.snapshot()
        try:
            if self._runs is not None and final is not None and not self.away:
                self._runs.end(final.status, final.when)
        except Exception as error:
            self._warn(f"MLflow shows the search as running ({reason(error, self._address)})")
        self._ended.set()

    def _note_mistake(self, error: Exception) -> None:
        """Keep an error for ``start`` to raise, if it shows that the address is wrong."""
        with self._starting:
            if not self._started and self._experiment is None and is_mistake(error, self._address):
                self._mistake = error

    def _write(self) -> bool:
        """Write what MLflow lacks; return whether anything is left.

        Raises:
            Exception: If the server does not answer.
        """
        # Read before the trials: if the final news is there, all news of trials is in the outbox, too.
        points, final = self._outbox.snapshot()
        if self._experiment is None:
            self._experiment = Experiment.open(self._address, self._name)
        self._opened.set()
        if not self._begun.is_set():
            return False
        runs = self._runs = self._runs or SearchRuns(self._experiment, self._about)
        self.parent_id = runs.parent.run_id
        left = not self._try("the experiment's kind", runs.say_kind)
        left |= not self._try("the search's settings", runs.describe)
        left |= not self._try("the table of nodes", partial(runs.write_nodes, self._outbox.nodes))
        left |= not self._write_trials(runs)
        for run in runs.without_dataset():
            left |= not self._try("the dataset", partial(runs.write_dataset, run))
        if self._try("the front's history", partial(runs.write_points, points)):
            self._outbox.take_points(len(points))
        else:
            left = True
        front = self._outbox.front
        for trial_id in runs.wrongly_tagged(front):
            left |= not self._try(trial_id, partial(runs.tag_front, trial_id, trial_id in front))
        if final is not None and not left:
            left = not self._finish(runs, final)
        return left

    def _write_trials(self, runs: SearchRuns) -> bool:
        """Write the trials with news; return whether all of them are written."""
        done = True
        for trial_id in list(self._outbox.trials):
            if self._given_up.is_set():
                return False
            snapshot = self._outbox.trials[trial_id]
            if self._try(trial_id, partial(self._write_trial, runs, snapshot)):
                self._outbox.take_trial(snapshot)
            else:
                done = False
        return done

    def _write_trial(self, runs: SearchRuns, snapshot: Snapshot) -> None:
        run = runs.run_of(snapshot, snapshot.trial_id in self._outbox.front)
        self._found(snapshot.trial_id, run.run_id)
        runs.write_trial(snapshot, snapshot.trial_id in self._outbox.front)

    def _try(self, what: str, write: Callable[[], object]) -> bool:
        """Run a write; return whether it is done, which it also is if it is skipped for good.

        Raises:
            Exception: If the server does not answer.
        """
        if what in self._skipped:
            return True
        try:
            write()
        except Exception as error:
            if not is_refusal(error):
                assert self._experiment is not None
                self._experiment.require_answer()  # raises if the server is the cause
                self._tries[what] += 1
                if self._tries[what] < _TRIES:
                    return False
            self._skipped.add(what)
            self._warn(f"MLflow does not take {what} ({reason(error, self._address)}); the rest is written")
        else:
            self._tries.pop(what, None)
        return True

    def _finish(self, runs: SearchRuns, final: Final) -> bool:
        """Write the final documents and the final status; return whether all are written."""
        done = True
        for name, text in final.texts.items():
            done &= self._try(name, partial(runs.write_text, name, text))
        if final.picture:
            done &= self._try(final.picture.name, partial(runs.write_file, final.picture))
        done &= self._try("the list of tables", partial(runs.list_tables, final.tables))
        done &= self._try("the verdict", partial(runs.judge, final.verdict))
        done &= self._try("the description", partial(runs.annotate, final.note))
        done &= self._try("the search's end", partial(runs.end, final.status, final.when))
        done &= self._write_models(runs)  # last: they are large, and a server may be slow
        if done:
            self._done.set()
        return done

    def _write_models(self, runs: SearchRuns) -> bool:
        """Write the models of the front; return whether all are written."""
        if not self._outbox.models:
            return True
        assert self._experiment is not None
        about = self._about
        models = self._models or LoggedModels(self._experiment, about.search_id, about.origin)
        self._models = models
        front, done = self._outbox.front, True
        for model in self._outbox.models:
            if self._given_up.is_set():
                return False
            on_front = model.trial_id in front
            run_id = runs.run_of(model.snapshot, on_front).run_id
            write = partial(models.write, model, run_id, on_front)
            done &= self._try(f"the model of {model.trial_id}", write)
        return done & self._try("which models are on the front", partial(models.tag, front))
