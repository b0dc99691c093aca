"""The models of a search: a folder for each member of the front, in the search's folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from search.records.place import MODELS, Place
from search.records.remote import RemoteFolder
from trainables.disk import is_disk_full
from trainables.errors import UserError

#: The file without which a folder is no model; it goes last to remote storage.
DESCRIPTION = "config.json"

#: Characters that stand in the names of folders as they are.
_PLAIN = re.compile(r"[^\w.-]")


def inner_folder(trial_id: str) -> str:
    """Return the path of a trial's model in its search's folder.

    >>> inner_folder("probe:text")
    'models/probe-text'
    """
    return f"{MODELS}/{_PLAIN.sub('-', trial_id)}"


class Models:
    """Writes the models of a search, here and at its remote address if it has one.

    Args:
        place: Where the search is.
        say: Called with a line for the user.

    Attributes:
        place: Where the search is.
    """

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self.place = place
        self._say = say
        self._remote = RemoteFolder(place) if place.remote else None

    def write(self, trial_id: str, write: Callable[[Path], None]) -> str | None:
        """Write a trial's model; an earlier one stays if it cannot be written.

        Args:
            trial_id: The trial's name.
            write: Writes the model into a folder, whole or not at all.

        Returns:
            The model's path in the search's folder; None if there is none. A line says why.

        Raises:
            DiskFullError: If the disk is full.
        """
        name = inner_folder(trial_id)
        folder = self.place.folder / name
        try:
            folder.parent.mkdir(exist_ok=True)
            write(folder)
            if self._remote is not None:
                self._remote.put_folder(name, folder, last=DESCRIPTION)
        except Exception as error:  # of a library, a file or a user's method: no search is lost by it
            if is_disk_full(error):
                raise
            earlier = self.has(trial_id)
            ends = "its model is the one of before" if earlier else f"{trial_id} has no model"
            self._say(f"{ends}: {_reason(error)}")
            return name if earlier else None
        return name

    def has(self, trial_id: str) -> bool:
        """Return whether there is a model of a trial on this machine."""
        return (self.place.folder / inner_folder(trial_id) / DESCRIPTION).is_file()

    def fetch(self, trial_id: str) -> bool:
        """Get a trial's model from the remote address, unless it is here; return whether it is here then."""
        if self._remote is not None and not self.has(trial_id):
            name = inner_folder(trial_id)
            try:
                self._remote.get_folder(name, self.place.folder / name)
            except UserError as error:
                self._say(str(error))
        return self.has(trial_id)

    def keep(self, trial_ids: Collection[str]) -> None:
        """Remove the models of all other trials."""
        kept = {inner_folder(trial_id) for trial_id in trial_ids}
        try:
            for path in sorted((self.place.folder / MODELS).glob("*")):
                if f"{MODELS}/{path.name}" not in kept:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for name in self._remote.folders(MODELS) if self._remote is not None else ():
                if f"{MODELS}/{name}" not in kept:
                    assert self._remote is not None
                    self._remote.remove_folder(f"{MODELS}/{name}")
        except (OSError, UserError) as error:
            self._say(f"models of trials that left the front stay: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Return the first line of an error, with its class where a person would not know it otherwise."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}".rstrip(": ")
