"""Checkpoints in the storage of a search: durable before they count, and found again if one is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs
from ray import tune
from ray.tune import Checkpoint

from trainables.disk import sync, sync_entry
from trainables.progress import Tick, no_tick
from trainables.trial.assignment import Assignment, folder_name
from trainables.trial.checkpoint import TRAINER, load_whole

#: How Ray begins the names of a trial's checkpoints. Their order is that of the names.
PREFIX = "checkpoint_"


def make_durable(checkpoint: Checkpoint) -> None:
    """Return once a checkpoint survives a power loss.

    Ray copies checkpoints into the storage and flushes nothing. Remote storage takes files whole or not at
    all. A folder of this machine, or one that is mounted, is flushed with the entries that lead to it.
    """
    if checkpoint.filesystem.type_name != "local":
        return
    folder = Path(checkpoint.path)
    sync(folder)
    sync_entry(folder.parent)
    sync_entry(folder.parent.parent)


def storage(folder: str) -> tuple[Any, str]:
    """Return the file system of a folder or a remote address, and the folder's path on it."""
    if "://" in folder:
        found: tuple[Any, str] = pyarrow.fs.FileSystem.from_uri(folder)
        return found
    return pyarrow.fs.LocalFileSystem(), folder


def names_in(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[str]:
    """Return the names of the checkpoints in a folder, latest first; none if there is no such folder."""
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    folders = (info.base_name for info in found if info.type is pyarrow.fs.FileType.Directory)
    return sorted((name for name in folders if name.startswith(PREFIX)), reverse=True)


def in_folder(filesystem: pyarrow.fs.FileSystem, folder: str) -> Iterator[Checkpoint]:
    """Yield the checkpoints in a folder, latest first."""
    for name in names_in(filesystem, folder):
        yield Checkpoint(f"{folder}/{name}", filesystem)


def keep_weights(checkpoint: Checkpoint) -> None:
    """Remove all other checkpoints beside one, and its state of the optimizer."""
    filesystem: Any = checkpoint.filesystem
    for other in in_folder(filesystem, str(PurePosixPath(checkpoint.path).parent)):
        if other.path != checkpoint.path:
            filesystem.delete_dir(other.path)
    with suppress(FileNotFoundError):
        filesystem.delete_file(f"{checkpoint.path}/{TRAINER}")


def up_to(latest: Checkpoint, assignment: Assignment) -> Iterator[Checkpoint]:
    """Yield a checkpoint and those of the same trial that are older, latest first.

    A later one than ``latest`` may be in the storage: one of which the store did not hear. It is left out,
    because the results of its epoch are not in the store.

    Args:
        latest: The latest checkpoint that the store knows.
        assignment: Names the trial, whose earlier legs may hold older checkpoints.
    """
    yield latest
    path = PurePosixPath(latest.path)
    for older in in_folder(latest.filesystem, str(path.parent)):
        if PurePosixPath(older.path).name < path.name:
            yield older
    legs = [folder_name(assignment.trial_id, leg) for leg in range(assignment.leg, 0, -1)]
    if path.parent.name in legs:
        for earlier in legs[legs.index(path.parent.name) + 1 :]:
            yield from in_folder(latest.filesystem, str(path.parent.parent / earlier))


class DurableTrial(tune.Trainable):
    """A trainable whose checkpoints survive a power loss, and which resumes from the latest whole one.

    A subclass calls ``assign`` for each configuration, and ``resume`` in each step: there, the death of its
    worker counts as one of the trial's failures, which Ray Tune forgives a few times.

    Attributes:
        assignment: The assignment.
        replaced: Whether this worker has taken the trial over from one that died.
    """

    def assign(self, assignment: Assignment) -> None:
        """Take an assignment."""
        self.assignment = assignment
        self.replaced = False
        self._latest: Any = assignment.checkpoint

    def resume(self, load: Callable[[Path], None], tick: Tick = no_tick) -> dict[str, str]:
        """Load the latest whole checkpoint, in the first step after an assignment or a restart.

        Args:
            load: See ``load_whole``.
            tick: See ``load_whole``.

        Returns:
            What to add to the result of the step: a ``remark`` if a checkpoint was damaged.
        """
        latest, self._latest = self._latest, None
        if latest is None:
            return {}
        remarks = load_whole(up_to(latest, self.assignment), load, tick)
        return {"remark": ", ".join(remarks)} if remarks else {}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save the trial; Ray Tune, and with it the store, hears of a checkpoint once it is durable."""
        saved = super().save(checkpoint_dir)
        make_durable(saved.checkpoint)
        return saved

    def restore(self, checkpoint_path: Any) -> None:
        """Note the trial's latest checkpoint after its worker was replaced; see ``resume``."""
        self.replaced = True
        self._latest = checkpoint_path.checkpoint
