"""A thread that writes to MLflow what there is to say of a search, and outlasts outages of the server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from search.reporting.mlflow_runs import SearchRuns
from search.reporting.mlflow_server import Experiment, is_mistake, is_refusal, reason
from search.reporting.news import About, Final, Point, Snapshot
from trainables.errors import UserError

_OPENING = 5.0  # seconds that the search waits for a wrong address to show
_ROUND = 1.0  # seconds between writes, so that what a trial reports meanwhile goes into one
_LONGEST = 30.0  # seconds between attempts to reach a server that does not answer
_TRIES = 5  # times that what fails though the server answers is tried


class Outbox:
    """What is still to be written: the search adds to it, the thread takes away from it.

    Attributes:
        trials: The latest snapshot of each trial that there is news of.
        points: How the search stood.
        front: Names of the trials on the front.
        final: What is said last, once it is known.
        changed: Set when something was added.
    """

    def __init__(self) -> None:
        self.trials: dict[str, Snapshot] = {}
        self.points: list[Point] = []
        self.front: frozenset[str] = frozenset()
        self.final: Final | None = None
        self.changed = threading.Event()
        self._lock = threading.Lock()
        self.changed.set()

    def put(self, snapshot: Snapshot) -> None:
        """Add a trial as it is now, in place of an earlier snapshot of it."""
        with self._lock:
            self.trials[snapshot.trial_id] = snapshot
        self.changed.set()

    def put_standing(self, front: frozenset[str], point: Point | None = None) -> None:
        """Add how the search stands."""
        with self._lock:
            self.front = front
            self.points += [point] if point else []
        self.changed.set()

    def put_final(self, final: Final) -> None:
        """Add what is said last: nothing is added after it."""
        with self._lock:
            self.final = final
        self.changed.set()

    def snapshot(self) -> tuple[list[Point], Final | None]:
        """Return points and final as they are now."""
        with self._lock:
            return list(self.points), self.final

    def take_trial(self, snapshot: Snapshot) -> None:
        """Remove a snapshot, unless there is more recent news of its trial."""
        with self._lock:
            if self.trials[snapshot.trial_id] is snapshot:
                del self.trials[snapshot.trial_id]

    def take_points(self, count: int) -> None:
        """Remove the oldest points."""
        with self._lock:
            del self.points[:count]


class MlflowWriter:
    """Writes an outbox to MLflow, from a thread of its own.

    The thread compares what MLflow holds with the outbox and writes the difference. While a server does not
    answer, that difference waits. What a server refuses, or what fails ``_TRIES`` times though it answers, is
    left out, and the rest is written.

    Args:
        uri: MLflow's address.
        experiment: The experiment's name.
        about: The search.
        outbox: What is to be written.
        found: Told of each trial the id of its run, as soon as it is there; called from the thread.
        warn: Told, in one line each, of outages and of what MLflow refuses; called from the thread.

    Attributes:
        parent_id: MLflow's id of the search's run; None until the server has answered.
        away: Whether the server did not answer the last time.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        about: About,
        outbox: Outbox,
        found: Callable[[str, str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.parent_id: str | None = None
        self.away = False
        self._uri = uri
        self._name = experiment
        self._about = about
        self._outbox = outbox
        self._found = found
        self._warn = warn
        self._experiment: Experiment | None = None
        self._runs: SearchRuns | None = None
        self._tries: Counter[str] = Counter()
        self._skipped: set[str] = set()

        self._opened = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._done = threading.Event()
        self._starting = threading.Lock()
        self._started = False
        self._mistake: Exception | None = None

    def start(self) -> None:
        """Start the thread, and wait for a while to see whether the address is right.

        Raises:
            UserError: If the address is wrong: of an unknown kind, of a database that cannot be opened, of a
                server that refuses. A server that does not answer is no mistake.
        """
        threading.Thread(target=self._run, name="mlflow", daemon=True).start()
        self._opened.wait(_OPENING)
        with self._starting:
            self._started = True
        if self._mistake is not None:
            raise UserError(f"--tracking-uri {self._uri}: cannot be used ({reason(self._mistake)})")

    def wait(self, patience: float) -> None:
        """Wait until the outbox is written, at most ``patience`` seconds; not while the server is away."""
        deadline = time.monotonic() + patience
        while (self._outbox.trials or self.parent_id is None) and time.monotonic() < deadline:
            if self.away:
                return
            self._outbox.changed.set()
            time.sleep(0.05)

    def close(self, patience: float) -> bool:
        """Let the thread end once all is written; the outbox holds what is said last.

        Args:
            patience: Seconds to wait; what is not written by then, is not.

        Returns:
            Whether MLflow took everything.
        """
        self._closing.set()
        self._outbox.changed.set()
        finished = self._done.wait(patience)
        self._given_up.set()
        self._outbox.changed.set()
        return finished and not self._skipped

    # From here on, all runs in the thread.

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
                    self._warn(
                        f"MLflow does not answer ({reason(error)}); the search goes on, and what it finds "
                        "is written once MLflow does"
                    )
                left, delay, self.away = True, min(2 * delay, _LONGEST), True
            self._opened.set()
            if self._done.is_set() or self._mistake is not None:
                return
            if left:
                self._outbox.changed.set()
            if not self._closing.is_set():
                self._closing.wait(delay)
            elif left:
                self._given_up.wait(min(delay, 1.0))

    def _note_mistake(self, error: Exception) -> None:
        """Keep an error for ``start`` to raise, if it shows that the address is wrong."""
        with self._starting:
            if not self._started and self._experiment is None and is_mistake(error, self._uri):
                self._mistake = error

    def _write(self) -> bool:
        """Write what MLflow lacks; return whether anything is left.

        Raises:
            Exception: If the server does not answer.
        """
        # Before the trials: once there is a final, all there is to say of them is in the outbox.
        points, final = self._outbox.snapshot()
        if self._experiment is None:
            self._experiment = Experiment.open(self._uri, self._name)
        self._opened.set()
        runs = self._runs = self._runs or SearchRuns(self._experiment, self._about)
        self.parent_id = runs.parent.run_id
        left = not self._try("the search's settings", runs.describe)
        left |= not self._write_trials(runs)
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
        """Write the trials there is news of; return whether all of it is written."""
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
        """Write something; return whether that is done with, be it that MLflow refuses it for good.

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
                self._experiment.require_answer()  # raises where the server is the cause
                self._tries[what] += 1
                if self._tries[what] < _TRIES:
                    return False
            self._skipped.add(what)
            self._warn(f"MLflow does not take {what} ({reason(error)}); the rest is written")
        else:
            self._tries.pop(what, None)
        return True

    def _finish(self, runs: SearchRuns, final: Final) -> bool:
        """Write the end's documents and status; return whether all of it is written."""
        done = True
        for name, text in final.texts.items():
            done &= self._try(name, partial(runs.write_text, name, text))
        if final.picture:
            done &= self._try(final.picture.name, partial(runs.write_file, final.picture))
        done &= self._try("the list of tables", partial(runs.list_tables, final.tables))
        done &= self._try("the search's end", partial(runs.end, final.status, final.when))
        if done:
            self._done.set()
        return done
