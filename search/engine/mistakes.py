"""What becomes of trials that a user's mistake keeps from running, such as a dataset that a node lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from search.nodes import NodeError
from search.placement import Placement
from search.records.history import TrialRecord
from search.records.status import Status

#: So many trials in a row that are set aside for the same reason end the search.
_IN_A_ROW = 3
#: Most nodes that a message names.
_NAMED = 3


class Mistakes:
    """Decides whether a trial that was set aside goes on elsewhere, and whether others are started at all.

    A node on which no trial of this search has run yet is to blame, if others are left, and one that is not
    fit: it gets no more trials, and the trial goes on elsewhere. Otherwise the trial waits until the search
    is resumed. After ``_IN_A_ROW`` such trials, no other one is started, unless one that is running shows
    that some can run.

    Args:
        placement: Keeps trials away from a node.

    Attributes:
        find_nodes: Returns the addresses of the nodes on which trials can be placed now, by Ray's ids.
        say: Called with a line for the user.
    """

    def __init__(self, placement: Placement) -> None:
        self.find_nodes: Callable[[], Mapping[str, str]] = dict
        self.say: Callable[[str], None] = lambda line: None
        self._placement = placement
        self._able: set[str | None] = set()
        self._unfit: dict[str, str] = {}  # id of a trial's node, by the trial's id
        self._row: list[str] = []
        self._machines: dict[str, list[str]] = {}  # by message
        self._said: set[str] = set()

    def started(self, record: TrialRecord) -> None:
        """Do nothing."""

    def reported(self, record: TrialRecord) -> None:
        """Note that a trial has run on its node."""
        if record.ending is None or record.ending.status is not Status.SET_ASIDE:
            self._able.add(record.node)
            self._row.clear()

    def ended(self, record: TrialRecord) -> None:
        """Do nothing."""

    def blame(self, record: TrialRecord, node_id: str) -> None:
        """Note that a node is not fit to run a trial, whether others have run there or not.

        Args:
            record: The trial.
            node_id: Ray's id of the node.
        """
        self._unfit[record.trial_id] = node_id

    def goes_on(self, record: TrialRecord) -> bool:
        """Return whether a trial that was set aside goes on elsewhere at once; say what becomes of it."""
        assert record.ending is not None
        message, machine = record.ending.message, record.machine
        machines = self._machines.setdefault(message, [])
        if machine not in machines:
            machines.append(machine)
        if self._keep_out(self._to_blame(record)):
            self._say(machine, f"{machine} gets no more trials: {message}")
            return True
        self._row.append(message)
        self._say(f"{machine} {message}", f"{record.trial_id} is set aside on {machine}: {message}")
        return False

    @property
    def halted(self) -> bool:
        """Whether no trial is to be started as things are."""
        last = self._row[-_IN_A_ROW:]
        return len(last) == _IN_A_ROW and len(set(last)) == 1

    def require_results(self, set_aside: int) -> None:
        """Say how many trials are set aside, when no other one is running.

        Args:
            set_aside: The number of these trials.

        Raises:
            NodeError: If trials could not run.
        """
        if not set_aside:
            return
        if self._row and (self.halted or not self._able):
            message = self._row[-1]
            machines = self._machines[message]
            more = f" and {len(machines) - _NAMED} more" if len(machines) > _NAMED else ""
            raise NodeError(f"no trial can run on {', '.join(machines[:_NAMED])}{more}: {message}")
        trials = "1 trial is" if set_aside == 1 else f"{set_aside} trials are"
        self.say(f"{trials} set aside, and will run when the search is resumed")

    def _to_blame(self, record: TrialRecord) -> list[str]:
        """Return the ids of the nodes that are to blame if a trial cannot run."""
        if record.trial_id in self._unfit:
            return [self._unfit.pop(record.trial_id)]
        if record.node in self._able:
            return []
        return [node for node, address in self.find_nodes().items() if address == record.node]

    def _keep_out(self, blamed: list[str]) -> bool:
        """Keep nodes out if there are any and others are left; return whether it is so."""
        if not blamed or set(self.find_nodes()) <= {*blamed, *self._placement.kept_out}:
            return False
        for node in blamed:
            self._placement.keep_out(node)
        return True

    def _say(self, cause: str, line: str) -> None:
        """Say a line, once for equal causes."""
        if cause not in self._said:
            self._said.add(cause)
            self.say(line)
