"""The searches in a folder: what state they are in, and how one of them is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from search.records.files import read_document
from search.records.opening import fetch, holds_search
from search.records.place import FILE, Place, absolute
from search.records.remote import RemoteFolder, claimed
from search.records.status import Status
from search.records.store import SearchStore, driver_in_words
from trainables.errors import UserError

#: Stands for the search in a folder that began last.
LATEST = "latest"
#: The fact with how the latest run of a search ended; it is null while a process runs the search.
ENDED = "ended"


class State(StrEnum):
    """What becomes of a search at the moment."""

    #: A process runs it.
    RUNNING = "running"
    #: It came to its end.
    FINISHED = "finished"
    #: A signal ended it, or its process was killed.
    INTERRUPTED = "interrupted"
    #: Its records cannot be read.
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Shelved:
    """A search in a folder.

    Attributes:
        place: Where it is.
        state: Its state.
        space: Name of its space, or of the method that is trained; empty if that cannot be read.
        trials: Number of trials that ran all epochs; None if that cannot be read, as while it is run.
        planned: Number of trials that are to be run; None likewise.
        front: Number of members of the front at the latest end; None if there was none.
        hypervolume: Hypervolume at the latest end, from 0 to 1; None likewise.
        size: Bytes of its files on this machine.
        note: Who runs it, or why it cannot be read; else empty.
    """

    place: Place
    state: State
    space: str
    trials: int | None
    planned: int | None
    front: int | None
    hypervolume: float | None
    size: int
    note: str = ""

    @property
    def go_on(self) -> str:
        """The command line that goes on with it; empty if none does."""
        if self.state is State.FINISHED:
            return f"{self.place.resume_command} --num-samples +10"
        return self.place.resume_command if self.state is State.INTERRUPTED else ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        names = ("space", "trials", "planned", "front", "hypervolume")
        return {
            "name": self.place.name,
            "address": self.place.address,
            "state": str(self.state),
            **{name: getattr(self, name) for name in names},
            "bytes": self.size,
            "note": self.note,
            "go_on": self.go_on,
        }


def shelf(storage_path: str) -> list[Shelved]:
    """Return the searches in a folder, those that were changed last at the end.

    Of searches at a remote address, those are known whose store this machine has.

    Args:
        storage_path: The folder, or the remote address.

    Raises:
        UserError: If there is no such folder, or if it cannot be read.
    """
    storage = absolute(storage_path)
    folder = Place(storage, "any").folder.parent
    if not folder.is_dir():
        raise UserError(f"{storage_path}: there is no such folder; no search has been kept there")
    try:
        stores = sorted(folder.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    return [look(Place(storage, path.parent.name)) for path in stores]


def named(search: str, storage_path: str) -> Place:
    """Return the place of a search that a user names; ``latest`` is the one that began last.

    Of searches at a remote address, those are known whose store this machine has.

    Args:
        search: A name, a path or a remote address of a search's folder, or ``latest``.
        storage_path: Folder or remote address that holds the search, unless ``search`` is a path or address.

    Raises:
        UserError: If the text cannot name a search, or if none has begun.
    """
    if search != LATEST:
        return Place.of(search, storage_path)
    storage = absolute(storage_path)
    began = {
        path.parent.name: read_document(path.with_name("config.json")).get("created", 0.0)
        for path in Place(storage, "any").folder.parent.glob(f"*/{FILE}")
    }
    if not began:
        raise UserError(f"{LATEST}: {storage_path} holds no searches")
    return Place(storage, max(began, key=lambda name: (began[name], name)))


@contextmanager
def removing(place: Place) -> Iterator[SearchStore]:
    """Yield the store of a search, and remove the search at the end of the block unless an error ends it.

    All of its files are removed, here and at its remote address. No other process can run it meanwhile. The
    records go last: if this is cut off, the search is still there to be removed.

    Args:
        place: Where it is.

    Raises:
        UserError: If there is none, if a process runs it, or if it is not the user's own.
    """
    with ExitStack() as stack:
        folder = RemoteFolder(place) if place.remote else None
        if folder is not None and holds_search(place):
            stack.enter_context(claimed(folder))
            fetch(folder)
        store = SearchStore.open(place.folder)
        stack.callback(store.close)
        yield store
        if folder is not None:
            folder.clear()
        for path in sorted(place.folder.iterdir(), key=lambda path: (path.name.startswith(FILE), path.name)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with contextlib.suppress(OSError):
        place.folder.rmdir()


def look(place: Place) -> Shelved:
    """Return what is known of a search without changing anything; another process may run it.

    Raises:
        UserError: If none is known to this machine there.
    """
    if not (place.folder / FILE).is_file():
        SearchStore.read(place.folder)  # says so, and which there are
    size = _size(place.folder)
    settings = read_document(place.folder / "config.json")
    space = str(settings.get("method") or settings.get("space") or "")
    result = read_document(place.folder / "result.json")
    front = len(result["front"]) if result else None
    ends = (front, result.get("hypervolume"), size)
    if SearchStore.driver(place.folder) is not None:
        note = driver_in_words(place.folder)
        return Shelved(place, State.RUNNING, space, None, settings.get("num_samples"), *ends, note=note)
    try:
        with contextlib.closing(SearchStore.read(place.folder)) as store:
            finished = sum(trial["status"] == Status.FINISHED for _, trial, _ in store.trials())
            ended = store.fact(ENDED)
    except UserError as error:
        return Shelved(place, State.UNREADABLE, space, None, None, *ends, note=str(error))
    state = State(ended) if ended else State.INTERRUPTED
    return Shelved(place, state, space, finished, settings.get("num_samples"), *ends)


def _size(folder: Path) -> int:
    """Return the bytes of a folder's files; what vanishes meanwhile does not count."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
