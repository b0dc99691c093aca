"""Opens the store of a search, wherever the search is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from search.records.files import write_whole
from search.records.outputs import FOLDER as OUTPUTS
from search.records.outputs import KeptOutputs
from search.records.place import FILE, MODELS, Place
from search.records.remote import RemoteCopy, RemoteFolder, claimed
from search.records.store import SearchStore, TakenError
from trainables.errors import UserError

#: Called with one line when a remote address cannot be reached.
Warn = Callable[[str], None]


@contextmanager
def created_store(place: Place, facts: Mapping[str, Any], warn: Warn) -> Iterator[SearchStore]:
    """Create the store of a new search. If an exception ends the search before it began, remove the store.

    A search has begun once the fact ``begun`` is written.

    Args:
        place: Where the search is to be.
        facts: As in ``SearchStore.create``.
        warn: Called with one line when a remote address cannot be reached.

    Raises:
        TakenError: If it holds a search, or if another process is about to start one.
        UserError: If the folder or address cannot be used.
    """
    with ExitStack() as stack:
        if place.remote:
            folder = RemoteFolder(place)
            claim = stack.enter_context(claimed(folder))
            if folder.holds_store():
                raise TakenError(f"{place}: another process has just started a search there")
        store = SearchStore.create(place.folder, facts)
        stack.callback(store.close)
        stack.enter_context(_discarded_unless_begun(store))
        if place.remote:
            stack.enter_context(RemoteCopy(folder, store, claim, warn))
        yield store


@contextmanager
def opened_store(place: Place, warn: Warn) -> Iterator[SearchStore]:
    """Open the store of a search that was started before, on this machine or on another one.

    Args:
        place: Where the search is.
        warn: Called with one line when a remote address cannot be reached.

    Raises:
        UserError: As ``SearchStore.open``, or if a process of another machine runs the search.
    """
    with ExitStack() as stack:
        if place.remote:
            folder = RemoteFolder(place)
            if not holds_search(place):
                raise UserError(f"{place}: no search was started there")
            claim = stack.enter_context(claimed(folder))
            fetch(folder)
        store = SearchStore.open(place.folder)
        stack.callback(store.close)
        if place.remote:
            stack.enter_context(RemoteCopy(folder, store, claim, warn))
        yield store


def read_store(place: Place, *, running: bool = False) -> SearchStore:
    """Return a copy of a search's store in memory; nothing is written.

    Args:
        place: Where the search is.
        running: Whether a process of this machine may be running it, see ``SearchStore.read``.

    Raises:
        UserError: As ``SearchStore.read``.
    """
    content = RemoteFolder(place).read_store() if place.remote else None
    if content is not None:
        return SearchStore.of_bytes(content, str(place))
    return SearchStore.read(place.folder, running=running)


def kept_outputs(store: SearchStore, place: Place) -> KeptOutputs:
    """Return the outputs that a search keeps beside its store, and at its remote address if it has one."""
    return KeptOutputs(store.path.parent, RemoteFolder(place).read if place.remote else None)


def search_id(place: Place) -> str | None:
    """Return the id of the search at a place, which another process may run; None if there is none."""
    if not place.remote:
        return SearchStore.id_at(place.folder)
    try:
        found = read_store(place).fact("search_id")
    except UserError:
        return None
    return found if isinstance(found, str) else None


def holds_search(place: Place) -> bool:
    """Return whether there is a search at a place, on this machine or at the remote address.

    Raises:
        UserError: If the remote address cannot be used.
    """
    if os.path.exists(place.folder / FILE):
        return True
    return place.remote and RemoteFolder(place).holds_store()


def fetch(folder: RemoteFolder) -> None:
    """Replace the store of this machine if the remote copy is newer, or if it is that of another search.

    It is that of another search if this name was used again, from another machine.
    """
    content = folder.read_store()
    if content is None:
        return
    path = folder.place.folder / FILE
    if path.exists():
        here, there = SearchStore.read(path.parent), SearchStore.of_bytes(content, str(folder.place))
        same = here.fact("search_id") == there.fact("search_id")
        if same and (here.fact("revision") or 0) >= (there.fact("revision") or 0):
            return
        path.with_name(f"{FILE}-wal").unlink(missing_ok=True)
        for kept in (OUTPUTS, MODELS):  # those of the newer store are there
            shutil.rmtree(path.parent / kept, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, content)


@contextmanager
def _discarded_unless_begun(store: SearchStore) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if store.fact("begun") is None:
            store.discard()
        raise
