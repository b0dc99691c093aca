"""The copy of a store at a remote address, beside the trials, and the claim of the process that runs it.

A store is a file on the driver's disk, because SQLite needs one. If the trials are at a remote address such
as ``s3://bucket/runs/mine``, a copy of the store is kept there. It is replaced while the search runs, so that
the search can be resumed on another machine after the loss of this one.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyarrow import fs

from search.records.outputs import FOLDER as OUTPUTS
from search.records.place import FILE, Place
from search.records.store import SearchStore, TakenError
from trainables.disk import move_synced
from trainables.errors import UserError

#: Seconds between two copies of the store, if it has changed.
COPY_SECONDS = 10.0
#: Seconds between two renewals of a claim.
RENEW_SECONDS = 60.0
#: Seconds in which processes that claim a search at the same moment settle whose it is.
CONTEST_SECONDS = 10.0
#: Age of a claim in seconds after which its process counts as dead.
EXPIRY_SECONDS = 300.0

_CLAIMS = "drivers"


@dataclass(frozen=True)
class RemoteFolder:
    """A search's folder at a remote address.

    Attributes:
        place: The place of the search.
    """

    place: Place

    def holds_store(self) -> bool:
        """Return whether there is a copy of the store."""
        with self._reached():
            return self._filesystem.get_file_info(self._path(FILE)).type is fs.FileType.File

    def read_store(self) -> bytes | None:
        """Return the copy of the store; None if there is none."""
        return self.read(FILE)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        with self._reached():
            try:
                with self._filesystem.open_input_stream(self._path(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file; it becomes visible as a whole."""
        with self._reached(), self._filesystem.open_output_stream(self._path(name)) as stream:
            stream.write(content)

    def clear(self) -> None:
        """Remove everything."""
        with self._reached(), suppress(FileNotFoundError):
            self._filesystem.delete_dir(self._path())

    def files(self, folder: str) -> dict[str, datetime]:
        """Return the names of a folder's files, with the times (of the storage's clock) of their change."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        with self._reached():
            found = self._filesystem.get_file_info(selector)
        return {info.base_name: info.mtime for info in found if info.type is fs.FileType.File}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        with self._reached():
            found = self._filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type is fs.FileType.Directory)

    def put_folder(self, name: str, source: Path, *, last: str) -> None:
        """Write a folder of this machine, in the place of an earlier one.

        Args:
            name: Its path.
            source: The folder.
            last: The file that is written last, and that an earlier folder loses first. Who finds it finds
                all others.
        """
        files = sorted(path for path in source.rglob("*") if path.is_file())
        with self._reached(), suppress(FileNotFoundError):
            self._filesystem.delete_file(self._path(name, last))
        self.remove_folder(name)
        for path in sorted(files, key=lambda path: path == source / last):
            target = self._path(name, path.relative_to(source).as_posix())
            with self._reached():
                if self._filesystem.type_name == "local":
                    self._filesystem.create_dir(target.rpartition("/")[0])
                fs.copy_files(str(path), target, fs.LocalFileSystem(), self._filesystem)

    def get_folder(self, name: str, target: Path) -> None:
        """Get a folder to this machine, whole or not at all; nothing is done if there is none.

        Args:
            name: Its path.
            target: The new folder.
        """
        with self._reached():
            there = self._filesystem.get_file_info(self._path(name)).type is fs.FileType.Directory
        if not there:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".") as scratch, self._reached():
            made = Path(scratch, "new")
            made.mkdir()
            fs.copy_files(self._path(name), str(made), self._filesystem, fs.LocalFileSystem())
            move_synced(made, target)

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if there is one."""
        with self._reached(), suppress(FileNotFoundError):
            self._filesystem.delete_dir(self._path(name))

    def claims(self) -> dict[str, datetime]:
        """Return the names of all claims, with the times of their last renewal."""
        return self.files(_CLAIMS)

    def claimant(self, name: str) -> dict[str, Any]:
        """Return what a process wrote into its claim; empty if the claim is gone."""
        try:
            with self._filesystem.open_input_stream(self._path(_CLAIMS, name)) as stream:
                document = json.loads(bytes(stream.read()))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def claim(self, name: str, *, held: bool = True) -> None:
        """Write or renew a claim of this process.

        Args:
            name: The claim's name.
            held: Whether the search is this process's; if not, it withdraws unless it is the first.
        """
        signature = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": time.strftime("%Y-%m-%d %H:%M"),
            "held": held,
        }
        self.write(f"{_CLAIMS}/{name}", json.dumps(signature).encode())

    def release(self, name: str) -> None:
        """Remove a claim."""
        with self._reached(), suppress(FileNotFoundError):
            self._filesystem.delete_file(self._path(_CLAIMS, name))

    @cached_property
    def _found(self) -> tuple[fs.FileSystem, str]:
        with self._reached():
            filesystem, path = fs.FileSystem.from_uri(self.place.address)
            return filesystem, path

    @property
    def _filesystem(self) -> fs.FileSystem:
        return self._found[0]

    def _path(self, *names: str) -> str:
        return "/".join((self._found[1], *names))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, NotImplementedError) as error:  # Arrow's own errors are among these
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"{self.place.address}: cannot be used ({reason})") from error


@contextmanager
def claimed(folder: RemoteFolder) -> Iterator[str]:
    """Claim a remote search for this process, and release it at the end.

    A claim is a file with a name of its own. A process writes its claim and then lists all of them. It goes
    on once it sees no other one that has not expired. Of two processes, at least one sees the claim of the
    other, so never do both go on. Of several that start at the same moment, the one whose claim has the first
    name waits until the others have withdrawn, so that one goes on. Ages are differences of the storage's own
    times; the clocks of machines play no part.

    Yields:
        The claim's name.

    Raises:
        TakenError: If another process has claimed the search.
        UserError: If the address cannot be used.
    """
    name = f"{uuid.uuid4().hex}.json"
    deadline = time.monotonic() + CONTEST_SECONDS
    folder.claim(name, held=False)
    try:
        while rivals := _rivals(folder, name):
            first = min(rivals)
            claimant, left = rivals[first]
            held = any(found.get("held", bool(found)) for found, _ in rivals.values())
            if held or first < name or time.monotonic() > deadline:
                raise TakenError(_held(folder.place, claimant, left))
            time.sleep(0.1)
        folder.claim(name)
        yield name
    finally:
        with suppress(UserError):
            folder.release(name)


class RemoteCopy:
    """Keeps the copy of a store up to date and the claim alive, in a thread.

    Args:
        folder: The remote folder.
        store: The store to copy.
        claim: The claim's name.
        warn: Called from the thread with one line when the address cannot be reached.
    """

    def __init__(
        self, folder: RemoteFolder, store: SearchStore, claim: str, warn: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._store = store
        self._claim = claim
        self._warn = warn
        self._copied = -1
        self._outputs: set[str] | None = None  # names of the copied ones; None until they are listed
        self._renewed = time.time()
        self._away = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remote store", daemon=True)

    def __enter__(self) -> RemoteCopy:
        self._copy()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._copy()
        except UserError as error:
            self._warn(f"{error}; the store there is not the latest, that of this machine is")

    def _run(self) -> None:
        while not self._ended.wait(COPY_SECONDS):
            try:
                self._copy()
                if time.time() - self._renewed > RENEW_SECONDS:
                    self._renew()
                self._away = False
            except UserError as error:
                if not self._away:
                    self._warn(f"{error}; the search goes on")
                self._away = True

    def _copy(self) -> None:
        # A search that comes to nothing before it begins leaves nothing behind.
        if self._store.changes != self._copied and self._store.fact("begun"):
            content, changes = self._store.next_revision()
            self._copy_outputs()  # first: no trial is finished there that has no outputs
            self._folder.write(FILE, content)
            self._copied = changes

    def _copy_outputs(self) -> None:
        """Copy the outputs of trials that were kept since the last call."""
        if self._outputs is None:
            self._outputs = set(self._folder.files(OUTPUTS))
        for path in sorted(self._store.path.parent.glob(f"{OUTPUTS}/*.npy")):
            if path.name not in self._outputs:
                self._folder.write(f"{OUTPUTS}/{path.name}", path.read_bytes())
                self._outputs.add(path.name)

    def _renew(self) -> None:
        claims = self._folder.claims()
        # If this process was asleep for long, another one may have taken it for dead.
        late = time.time() - self._renewed > EXPIRY_SECONDS / 2
        if self._claim not in claims or (late and len(claims) > 1):
            self._store.bar(f"{self._folder.place}: another process has taken over this search")
            self._ended.set()
            return
        self._folder.claim(self._claim)
        self._renewed = time.time()


def _rivals(folder: RemoteFolder, name: str) -> dict[str, tuple[dict[str, Any], timedelta]]:
    """Return who else claims a search, by the claim's name, and the time after which the claim expires.

    Claims of dead processes are removed. Nothing is known of a claim that was withdrawn a moment ago.

    Args:
        folder: The search's folder.
        name: Name of this process's claim.
    """
    times, rivals = folder.claims(), {}
    for other, renewed in times.items():
        if other == name:
            continue
        claimant = folder.claimant(other)
        left = timedelta(seconds=EXPIRY_SECONDS) - (times[name] - renewed)
        if left < timedelta(0) or _ended_here(claimant):
            folder.release(other)
        else:
            rivals[other] = claimant, left
    return rivals


def _ended_here(claimant: dict[str, Any]) -> bool:
    """Return whether a claim is that of a process of this machine that has ended."""
    if claimant.get("host") != platform.node() or not isinstance(claimant.get("pid"), int):
        return False
    try:
        os.kill(claimant["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _held(place: Place, claimant: dict[str, Any], left: timedelta) -> str:
    names = {"pid", "host", "since"} <= claimant.keys()
    who = "process {pid} on {host} since {since}".format(**claimant) if names else "another process"
    minutes = max(1, round(left.total_seconds() / 60))
    return (
        f"{place.address}: is being run by {who}; if that machine is gone, the search can be resumed in "
        f"{minutes} minute{'s' if minutes > 1 else ''}"
    )
