"""News of a search that MLflow does not hold yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from search.records.points import Point
from search.reporting.front_models import FrontModel
from search.reporting.news import Final, Snapshot


class Outbox:
    """News to be written: the search adds to it, and the thread removes from it.

    Attributes:
        trials: The latest snapshot of each trial with news.
        points: The search's progress at several times.
        front: Names of the trials on the front.
        nodes: The table of nodes; None until there is one.
        final: The final news; None until the search ends.
        models: The models of the front, once the search ends.
        changed: Set when something was added.
    """

    def __init__(self) -> None:
        self.trials: dict[str, Snapshot] = {}
        self.points: list[Point] = []
        self.front: frozenset[str] = frozenset()
        self.nodes: str | None = None
        self.final: Final | None = None
        self.models: Sequence[FrontModel] = ()
        self.changed = threading.Event()
        self._lock = threading.Lock()
        self.changed.set()

    def put(self, snapshot: Snapshot) -> None:
        """Add a snapshot of a trial, which replaces an earlier one."""
        with self._lock:
            self.trials[snapshot.trial_id] = snapshot
        self.changed.set()

    def put_standing(self, front: frozenset[str], points: Iterable[Point] = ()) -> None:
        """Set the current front, and add points of progress."""
        with self._lock:
            self.front = front
            self.points += points
        self.changed.set()

    def put_nodes(self, table: str) -> None:
        """Set the table of nodes."""
        with self._lock:
            self.nodes = table
        self.changed.set()

    def put_final(self, final: Final, models: Sequence[FrontModel] = ()) -> None:
        """Add the final news, and the models of the front; nothing may be added after it."""
        with self._lock:
            self.final, self.models = final, models
        self.changed.set()

    def snapshot(self) -> tuple[list[Point], Final | None]:
        """Return the current points and final news."""
        with self._lock:
            return list(self.points), self.final

    def take_trial(self, snapshot: Snapshot) -> None:
        """Remove a snapshot, unless a newer one has replaced it."""
        with self._lock:
            if self.trials[snapshot.trial_id] is snapshot:
                del self.trials[snapshot.trial_id]

    def take_points(self, count: int) -> None:
        """Remove the ``count`` oldest points."""
        with self._lock:
            del self.points[:count]
