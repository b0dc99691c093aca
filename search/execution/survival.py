"""How a trial is handled whose worker died or raised an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.engine.recorder import Recorder
from search.nodes import hostname
from search.records.history import TrialRecord
from search.records.status import Ending, Status
from trainables.disk import is_disk_full
from trainables.errors import DiskFullError
from trainables.trial.watchdog import Remains, examine

#: Message of Ray's memory monitor about a worker that it killed. (The words "the OOM killer" prove nothing:
#: Ray names it as a possible cause of every death.)
_KILLED_BY_RAY = "killed due to the node running low on memory"
_ACTOR_DIED = re.compile(r"^The actor (?:died|is dead)", re.MULTILINE)
#: Message of a trial whose node is not fit, with the node's address and Ray's id of it.
_UNFIT = re.compile(r"UnfitNodeError: (\S+) ([0-9a-f]+) (.*)")
#: Message of Ray about a node that cannot import what a trial needs, and what Python says of it.
_NOT_IMPORTED = re.compile(r"failed to import on the worker.*?^(\w+Error: .*?)$", re.MULTILINE | re.DOTALL)
_FAILURE = re.compile(r"^Failure # \d+ \(occurred at [^)]*\)\n", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Attributes:
        message: One line.
        out_of_memory: Whether its worker was killed because the node ran out of memory.
        node: Address of the worker's node; None if it is not known.
        unfit: Whether the node cannot run any trial.
        node_id: Ray's id of a node that has said so itself; None if it is not known.
    """

    message: str
    out_of_memory: bool = False
    node: str | None = None
    unfit: bool = False
    node_id: str | None = None

    @property
    def ending(self) -> Ending | None:
        """How the trial ends; None if it goes on from its last checkpoint."""
        if self.unfit:
            return Ending(Status.SET_ASIDE, "", self.message)
        return Ending(Status.OUT_OF_MEMORY, "", self.message) if self.out_of_memory else None


class Survival(FIFOScheduler):
    """Starts trials in their order, and ends those whose worker was killed because memory ran out.

    Ray Tune restarts a trial from its last checkpoint if the worker died. If the node ran out of memory, or
    is not fit for trials, that would happen again, so the trial is ended and the searcher is told. This class
    is a scheduler because only a scheduler may stop a trial that Ray Tune has put back into its queue.

    Args:
        recorder: Records the cause of a failure.
        blame: Called with a trial and Ray's id of its node, if that is not fit for trials.
    """

    def __init__(self, recorder: Recorder, blame: Callable[[TrialRecord, str], None]) -> None:
        super().__init__()
        self.recorder = recorder
        self.blame = blame

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune pickles its scheduler, and this one has no state of its own."""
        return {}

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Record the cause, before the searcher hears of the failure or the trial is queued again.

        Raises:
            DiskFullError: If a disk is full: all trials would fail, and none of them for a reason of its own.
        """
        error = last_error(trial)
        if is_disk_full(RuntimeError(error)):
            raise DiskFullError(error.splitlines()[-1].partition(f"{DiskFullError.__name__}: ")[2])
        failure = diagnose(error, trial.storage.trial_working_directory)
        if failure.node_id is not None:
            self.blame(self.recorder.history.leg(trial.trial_id), failure.node_id)
        name = hostname(failure.node) if failure.node is not None else None
        self.recorder.fail(trial.trial_id, failure.message, failure.ending, failure.node, name)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Stop a trial that was queued again although its memory ran out, or its node is not fit."""
        if self.recorder.history.leg(trial.trial_id).ending is not None:
            tune_controller.stop_trial(trial)


def notes_folder(name: str) -> Path:
    """Return a folder for the notes of a watchdog, in the folder that Ray has for this session.

    Args:
        name: A name that no other process of the session has. The folder has the same path on each node.
    """
    session = ray._private.worker._global_node.get_session_dir_path()
    return Path(session, "watchdogs", name)


def last_error(trial: Any) -> str:
    """Return the text of a Ray Tune trial's latest error, empty if there is none."""
    path = trial.error_file
    if not path or not Path(path).exists():
        return ""
    return _FAILURE.split(Path(path).read_text())[-1].strip()


def diagnose(error: str, folder: str) -> Failure:
    """Return why a trial failed.

    Args:
        error: The error's text.
        folder: Folder on the worker's node in which the worker left its notes.
    """
    if unfit := _UNFIT.search(error):
        return Failure(unfit[3][:300], node=unfit[1], unfit=True, node_id=unfit[2])
    found = re.search(r"\b(?:ip: |IP: |ip=)([0-9a-fA-F.:]+)", error)
    node = found[1] if found else None
    if absent := _NOT_IMPORTED.search(error):
        return Failure(f"its node cannot import this program ({absent[1][:200]})", node=node, unfit=True)
    if _KILLED_BY_RAY in error:
        return Failure(f"Ray killed its worker: {error.splitlines()[0][:300]}", True, node)
    if not _ACTOR_DIED.search(error):
        lines = [line.strip() for line in error.splitlines() if line.strip()]
        return Failure(lines[-1][:300] if lines else "unknown error", node=node)
    remains = _ask(node, folder) if node else None
    if remains is not None and remains.killed_for_memory:
        return Failure(f"the kernel killed its worker on {node} for want of memory", True, node)
    if remains is not None and remains.hang:
        return Failure(_hung(remains, node), node=node)
    detail = error.splitlines()[-1].partition(" Some common causes")[0]
    return Failure(f"its worker died: {detail[:300]}", node=node)


def find_hang(name: str) -> str:
    """Return in one line where a process hung, of which only the name of its notes is known; else nothing."""
    folder = str(notes_folder(name))
    for node in dict.fromkeys(known["NodeManagerAddress"] for known in ray.nodes() if known["Alive"]):
        remains = _ask(node, folder)
        if remains is not None and remains.hang:
            return _hung(remains, node)
    return ""


def _hung(remains: Remains, node: str | None) -> str:
    return f"hung at {remains.hang}, on {node}"


def _ask(node: str, folder: str) -> Remains | None:
    """Return what a worker left on its node; None if the node is gone too."""
    if node == ray.util.get_node_ip_address():
        return examine(folder)
    ids = [known["NodeID"] for known in ray.nodes() if known["Alive"] and known["NodeManagerAddress"] == node]
    if not ids:
        return None
    there = NodeAffinitySchedulingStrategy(ids[0], soft=False)
    try:
        answer = ray.remote(num_cpus=0)(examine).options(scheduling_strategy=there).remote(folder)
        return ray.get(answer, timeout=30)
    except RayError:
        return None
