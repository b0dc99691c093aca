"""Removal of checkpoints that can no longer matter: the disk does not grow with each trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from search.checkpoints import names_in, storage
from search.engine.recorder import Recorder
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

    As long as configurations may still be repeated with other seeds, means change, and what is dominated may
    come back. Until then, all finished trials keep the weights of their last epoch.

    The store hears of a removal first, so that it never names a checkpoint that is gone.

    Args:
        recorder: Holds the trials, and tells the store.
        folder: The search's folder or remote address.
        settled: Returns whether the results of finished trials stay as they are.
        say: Called with a message if files cannot be removed.
    """

    def __init__(
        self, recorder: Recorder, folder: str, settled: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._recorder = recorder
        self._say = say
        self._settled = settled
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
        for record in superfluous(history) if self._settled() else ():
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


def superfluous(history: History) -> list[TrialRecord]:
    """Return the finished trials whose checkpoints can no longer matter, if their results stay as they are.

    A search scores the configurations on its front, the best one of each method, and the one that it compares
    with its probe, when it ends.

    Args:
        history: The trials.
    """
    needed = {record.key for record in history.scored()}

    def under_way(record: TrialRecord) -> bool:
        going_on = (Status.RUNNING, Status.PAUSED, Status.SET_ASIDE)
        return any(run.status in going_on for run in history.alike(record))

    finished = [record for record in history.by_status(Status.FINISHED) if record.checkpoint is not None]
    return [record for record in finished if record.key not in needed and not under_way(record)]


def _legs(record: TrialRecord) -> list[str]:
    """Return the names of the folders of a trial's legs, latest first."""
    return [folder_name(record.trial_id, leg) for leg in range(record.legs, 0, -1)]
