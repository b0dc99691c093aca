"""Removal of checkpoints that can no longer matter: the disk does not grow with each trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from search.checkpoints import names_in, storage
from search.engine.recorder import Recorder
from search.goals.pareto import dominates
from search.records.history import History, TrialRecord
from search.records.status import Status
from trainables.trial.assignment import folder_name
from trainables.trial.checkpoint import TRAINER

#: Checkpoints of a paused trial that are kept: the one from which it resumes, and the one before.
_TO_RESUME = 2


class Cleaner:
    """Keeps of each trial that has ended what can still matter, and removes the rest.

    - A finished trial that may be scored on the test split keeps the weights of its last epoch, without the
      state of the optimizer; any other one keeps none: see ``superfluous``. Their records stay.
    - A trial that a rule stopped is never resumed, and keeps none.
    - A paused trial keeps two checkpoints, with all that it needs to resume.
    - Nothing is removed of any other trial. One that ended in errors may have a good checkpoint. One that
      runs is Ray Tune's, which keeps two.

    The store hears of a removal first, so that it never names a checkpoint that is gone.

    Args:
        recorder: Holds the trials, and tells the store.
        folder: The search's folder or remote address.
        seeds: Number of seeds with which each configuration of the front is trained.
        say: Called with a message if files cannot be removed.
    """

    def __init__(self, recorder: Recorder, folder: str, seeds: int, say: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._say = say
        self._seeds = seeds
        self._filesystem, self._folder = storage(folder)
        self._trimmed: set[str] = set()

    def started(self, record: TrialRecord) -> None:
        """Do nothing."""

    def reported(self, record: TrialRecord) -> None:
        """Do nothing."""

    def ended(self, record: TrialRecord) -> None:
        """Remove what is not needed any more, of this trial and of those that it beats."""
        if record.status is Status.FINISHED:
            self.sweep()
        elif record.status is Status.PAUSED:
            self._remove(self._checkpoints(record)[_TO_RESUME:])
        elif record.status is Status.STOPPED and not self._recorder.rule.pauses:
            self._forget(record)

    def sweep(self) -> None:
        """Remove what is not needed of all finished trials; an interruption may have left something."""
        history = self._recorder.history
        for record in superfluous(history, self._seeds):
            self._forget(record)
        for record in history.by_status(Status.FINISHED):
            if record.checkpoint is not None and record.trial_id not in self._trimmed:
                self._trim(record)
                self._trimmed.add(record.trial_id)

    def _trim(self, record: TrialRecord) -> None:
        """Keep the weights of a trial's last checkpoint."""
        assert record.checkpoint is not None
        kept = PurePosixPath(record.checkpoint)
        self._remove(path for path in self._checkpoints(record) if path != str(kept))
        self._remove(leg for leg in _legs(record)[1:] if leg != kept.parts[0])
        self._delete(self._filesystem.delete_file, f"{kept}/{TRAINER}")

    def _forget(self, record: TrialRecord) -> None:
        """Remove all checkpoints of a trial."""
        record.checkpoint = None
        self._recorder.keep(record)
        self._remove(self._checkpoints(record))
        self._remove(_legs(record)[1:])

    def _checkpoints(self, record: TrialRecord) -> list[str]:
        """Return the paths of a trial's checkpoints in the search's folder, latest first."""
        return [
            f"{leg}/{name}"
            for leg in _legs(record)
            for name in names_in(self._filesystem, f"{self._folder}/{leg}")
        ]

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._delete(self._filesystem.delete_dir, path)

    def _delete(self, delete: Callable[[str], None], path: str) -> None:
        """Delete a file or folder; if that fails, the search goes on without the space."""
        try:
            delete(f"{self._folder}/{path}")
        except FileNotFoundError:
            pass
        except OSError as error:
            self._say(f"{path} cannot be removed ({error.strerror or error})")


def superfluous(history: History, seeds: int) -> list[TrialRecord]:
    """Return the finished trials whose checkpoints can no longer matter.

    A search scores the configurations on its front, and the best one of each method, when it ends. A
    configuration that is neither has a way back as long as those before it can still get worse. Values are
    means over seeds, so they change until a configuration of the front has all of its seeds. With one seed,
    they never change.

    Args:
        history: The trials.
        seeds: Number of seeds with which each configuration of the front is trained.
    """
    front = [member for member in history.front() if _has_all_seeds(member, history, seeds)]
    beaten_by = [(member.key, history.losses(history.values(member))) for member in front]

    def off_the_front(record: TrialRecord) -> bool:
        """Whether a configuration is off the front for good; it gets no more seeds, so its values stay."""
        if any(run.status in (Status.RUNNING, Status.PAUSED) for run in history.alike(record)):
            return False
        values = history.values(record)
        if any(violation > 0 for violation in history.violations(values).values()):
            return True
        losses = history.losses(values)
        return any(key != record.key and dominates(other, losses) for key, other in beaten_by)

    kept = [record for record in history.by_status(Status.FINISHED) if record.checkpoint is not None]
    out = {record.key for record in kept if off_the_front(record)}
    final = out | {key for key, _ in beaten_by}
    objective = history.trained_objective
    best: dict[str, TrialRecord] = {}
    for record in sorted(kept, key=lambda record: objective.loss(history.values(record)[objective.name])):
        best.setdefault(record.config["method"], record)
    return [
        record
        for record in kept
        if record.key in out and record.key != (first := best[record.config["method"]].key) and first in final
    ]


def _has_all_seeds(record: TrialRecord, history: History, seeds: int) -> bool:
    runs = [run for run in history.alike(record) if not run.retry_of]
    return len(runs) >= seeds and not any(run.status is Status.RUNNING for run in history.alike(record))


def _legs(record: TrialRecord) -> list[str]:
    """Return the names of the folders of a trial's legs, latest first."""
    return [folder_name(record.trial_id, leg) for leg in range(record.legs, 0, -1)]
