"""The store of a search on disk: one SQLite file, in which every event is one transaction."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.records.files import read_document, write_whole
from search.records.ownership import require_own
from search.records.place import FILE, MOVE
from trainables.disk import disk_full, is_disk_full
from trainables.errors import UserError

_VERSION = 3
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE asked (number INTEGER PRIMARY KEY, document TEXT);
CREATE TABLE trials (trial_id TEXT PRIMARY KEY, document TEXT) WITHOUT ROWID;
CREATE TABLE epochs (trial_id TEXT, epoch INTEGER, document TEXT, PRIMARY KEY (trial_id, epoch))
    WITHOUT ROWID;
CREATE TABLE points (number INTEGER PRIMARY KEY, document TEXT);
"""
_DRIVER = "driver.json"
_TRIES = 20  # to copy a store between two writes of its process


class TakenError(UserError):
    """A search's folder or address that another process has just taken."""


class SearchStore:
    """The state of a search: its settings, the sampler's proposals, trials, their epochs, and its progress.

    Committed transactions survive if the process is killed or the machine loses power. While a store is open,
    no other process can open it. The operating system releases the lock when the process ends, however it
    ends.

    Use ``create``, ``open`` or ``read`` to make one.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        file: tuple[int, int] | None = None,
        made: tuple[Path, ...] = (),
    ) -> None:
        self.path = path
        self._connection = connection
        self._file = file
        self._made = made
        self._depth = 0
        self._lock = threading.RLock()
        self._barred: str | None = None

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any]) -> SearchStore:
        """Create the store of a new search, in one transaction.

        Args:
            folder: The search's folder; it is created, for the user alone.
            facts: Values that ``fact`` returns, by name; they must be valid in JSON.

        Raises:
            TakenError: If the folder holds a store already.
            UserError: If the folder cannot be written.
        """
        missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            # The file is created by one process alone, if two start a search of one name at once.
            os.close(os.open(folder / FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            if os.path.exists(folder / FILE):
                raise TakenError(f"{folder}: another process has just started a search there") from error
            _remove(missing)
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
        store = cls(folder / FILE, _opened(folder), _file_id(folder / FILE), tuple(missing))
        try:
            with store.transaction():
                for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
                    store._connection.execute(statement)
                store.put_facts({"version": _VERSION, **facts})
            store._sign()
        except BaseException:
            store.discard()
            raise
        return store

    @classmethod
    def open(cls, folder: Path) -> SearchStore:
        """Open the store of a search that was started before.

        Raises:
            UserError: If there is none, if it is not the user's own, if another process has it open, if
                another version wrote it, or if it is damaged.
        """
        _require(folder)
        require_own(folder / FILE)
        store = cls(folder / FILE, _opened(folder), _file_id(folder / FILE))
        try:
            store._check()
            store._sign()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, folder: Path, *, running: bool = False) -> SearchStore:
        """Return a copy of a store in memory. Nothing is written, so it may be another user's search.

        Args:
            folder: The search's folder.
            running: Whether a process may be running the search. The copy is then what the store held at
                some moment of the call.

        Raises:
            UserError: As ``open``, but for the owner, or if the store cannot be read.
        """
        _require(folder)
        copy = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                (_copy_as_it_is if running else _copy_unlocked)(folder, Path(scratch))
                original = _opened(Path(scratch), of=folder)
                original.backup(copy)
                original.close()
        except OSError as error:
            raise UserError(f"{folder / FILE}: cannot be read ({error.strerror})") from error
        except sqlite3.DatabaseError as error:
            raise _damaged(folder / FILE, error) from error
        store = cls(folder / FILE, copy)
        store._check()
        return store

    @classmethod
    def of_bytes(cls, content: bytes, shown: str) -> SearchStore:
        """Return a store in memory from the content that ``next_revision`` returned.

        Args:
            content: The content.
            shown: Where it comes from, for messages.

        Raises:
            UserError: If another version wrote it, or if it is damaged.
        """
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            connection.deserialize(content)
        except sqlite3.DatabaseError as error:
            raise _damaged(Path(shown), error) from error
        store = cls(Path(shown), connection)
        store._check()
        return store

    @classmethod
    def id_at(cls, folder: Path) -> str | None:
        """Return the id of the search in a folder, which another process may run; None if there is none."""
        try:
            with contextlib.closing(cls.read(folder)) as store:
                found = store.fact("search_id")
        except UserError:
            found = _signature(folder).get("search_id")
        return found if isinstance(found, str) else None

    @classmethod
    def driver(cls, folder: Path) -> dict[str, Any] | None:
        """Return what a process that has the store open wrote down about itself; None if none has.

        It is ``pid``, ``host`` and ``since``, as far as that can be read.
        """
        if _file_id(folder / FILE) not in _OPEN:
            with (folder / FILE).open("rb") as file:
                try:
                    _share(file.fileno(), folder)
                except UserError:
                    pass
                else:
                    return None
        return _signature(folder)

    def close(self) -> None:
        """Close the file and release its lock."""
        self._connection.close()
        if self._file is not None:
            _OPEN.discard(self._file)

    def discard(self) -> None:
        """Remove the store of a search that came to nothing, and the folders that were made for it."""
        self.close()
        for name in (FILE, f"{FILE}-wal", _DRIVER, "config.json"):
            (self.path.parent / name).unlink(missing_ok=True)
        _remove(self._made)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside the ``with`` statement together or not at all; may be nested.

        Raises:
            UserError: If the disk does not take it.
        """
        with self._lock:
            yield from self._transaction()

    def _transaction(self) -> Iterator[None]:
        if self._barred is not None:
            raise UserError(self._barred)
        try:
            if self._depth == 0:
                self._connection.execute("BEGIN")
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")
        except BaseException as error:
            if self._depth == 0 and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if is_disk_full(error):
                raise disk_full(self.path.parent, MOVE) from error
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(f"{self.path}: cannot be written ({error})") from error
            raise

    def bar(self, reason: str) -> None:
        """Refuse all further transactions, with a line that says why; may be called from another thread."""
        self._barred = reason

    @property
    def changes(self) -> int:
        """Number of changes since the store was opened."""
        return self._connection.total_changes

    def next_revision(self) -> tuple[bytes, int]:
        """Return the content after the last transaction as a new revision, and the number of changes so far.

        May be called from another thread. The fact ``revision`` grows by one, here and in the content.
        """
        with self._lock:
            self.put_facts({"revision": (self.fact("revision") or 0) + 1})
            copy = sqlite3.connect(":memory:")
            with contextlib.closing(copy):
                self._connection.backup(copy)
                content = bytearray(copy.serialize())
            content[18:20] = b"\1\1"  # no write-ahead log, which a database in memory cannot have
            return bytes(content), self.changes

    def fact(self, name: str) -> Any:
        """Return a value by its name; None if there is none."""
        row = next(self._rows("SELECT value FROM facts WHERE name = ?", name), None)
        return None if row is None else self._decode(row[0])

    def put_facts(self, facts: Mapping[str, Any]) -> None:
        """Write values, which must be valid in JSON, by name."""
        rows = [(name, json.dumps(value)) for name, value in facts.items()]
        self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def put_asked(self, number: int, document: Mapping[str, Any]) -> None:
        """Write a numbered proposal of the sampler, with what the sampler was told about it."""
        self._connection.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (number, json.dumps(document)))

    def asked(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the numbers and documents of the sampler's proposals, in order."""
        for number, document in self._rows("SELECT * FROM asked ORDER BY number"):
            yield number, self._decode(document)

    def put_trial(self, trial_id: str, document: Mapping[str, Any]) -> None:
        """Write a trial, without its epochs."""
        self._connection.execute(
            "INSERT OR REPLACE INTO trials VALUES (?, ?)", (trial_id, json.dumps(document))
        )

    def put_epoch(self, trial_id: str, epoch: int, document: Mapping[str, float]) -> None:
        """Write the results of an epoch."""
        self._connection.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (trial_id, epoch, json.dumps(document))
        )

    def trials(self) -> Iterator[tuple[str, dict[str, Any], list[dict[str, float]]]]:
        """Yield the name, the document and the epochs of each trial, in the order of their names."""
        epochs: dict[str, list[dict[str, float]]] = {}
        for trial_id, document in self._rows(
            "SELECT trial_id, document FROM epochs ORDER BY trial_id, epoch"
        ):
            epochs.setdefault(trial_id, []).append(self._decode(document))
        for trial_id, document in self._rows("SELECT * FROM trials ORDER BY length(trial_id), trial_id"):
            yield trial_id, self._decode(document), epochs.get(trial_id, [])

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn errors inside the ``with`` statement, which reads documents, into one that names the store.

        Raises:
            UserError: If a document is not what was written.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(self.path, f"{type(error).__name__}: {error}") from error

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; an error means that the file is damaged."""
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise _damaged(self.path, error) from error

    def _decode(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise _damaged(self.path, error) from error

    def _check(self) -> None:
        """Raise ``UserError`` if the file is no store of this version, or damaged."""
        tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master")}
        if "facts" not in tables:
            raise UserError(f"{self.path}: is no search's store")
        version = self.fact("version")
        if version != _VERSION:
            age = "a newer" if isinstance(version, int) and version > _VERSION else "another"
            raise UserError(f"{self.path}: was written by {age} version ({version}, not {_VERSION})")
        (found,) = next(self._rows("PRAGMA quick_check(1)"))
        if found != "ok":
            raise _damaged(self.path, found)

    def put_point(self, document: Mapping[str, Any]) -> None:
        """Add the search's progress at a time."""
        self._connection.execute("INSERT INTO points (document) VALUES (?)", (json.dumps(document),))

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield the search's progress at several times, in order."""
        for (document,) in self._rows("SELECT document FROM points ORDER BY number"):
            yield self._decode(document)

    def _sign(self) -> None:
        """Write down which process has the store open, for error messages."""
        signature = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M")}
        signature["search_id"] = self.fact("search_id")
        write_whole(self.path.parent / _DRIVER, json.dumps(signature))


#: Stores that this process has open. If it opened such a file again and closed it, the lock would be lost.
_OPEN: set[tuple[int, int]] = set()


def _opened(folder: Path, of: Path | None = None) -> sqlite3.Connection:
    """Return a connection that keeps other processes out.

    Args:
        folder: The folder with the file.
        of: The search's folder, if the file is a copy.
    """
    path, shown = folder / FILE, (of or folder) / FILE
    if _file_id(path) in _OPEN:
        raise UserError(f"search '{folder.name}' is being run by this process")
    connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        # In exclusive mode, a write-ahead log needs no shared memory, which network file systems lack.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise UserError(f"search '{folder.name}' is being run by {driver_in_words(folder)}") from error
        if isinstance(error, sqlite3.OperationalError):
            raise UserError(f"{shown}: cannot be opened ({error})") from error
        raise UserError(f"{shown}: is no search's store ({error})") from error
    if of is None:
        _OPEN.add(_file_id(path))
    return connection


def _file_id(path: Path) -> tuple[int, int]:
    """Return what tells a file from all others, by whichever path it is reached."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _copy_unlocked(folder: Path, scratch: Path) -> None:
    """Copy a store's files, which this user may only be allowed to read, while no process writes them."""
    if _file_id(folder / FILE) in _OPEN:
        raise UserError(f"search '{folder.name}' is being run by this process")
    with (folder / FILE).open("rb") as file:
        _share(file.fileno(), folder)
        (scratch / FILE).write_bytes(file.read())
        with contextlib.suppress(FileNotFoundError):
            (scratch / f"{FILE}-wal").write_bytes((folder / f"{FILE}-wal").read_bytes())


def _copy_as_it_is(folder: Path, scratch: Path) -> None:
    """Copy a store's files, which a process may be writing.

    Transactions go to the log, whose copy may end within one, which SQLite leaves out. They come into the
    file itself only if the log is to begin anew. So the file and the log belong together if the file is the
    same before and after the log was copied.
    """
    path, log = folder / FILE, folder / f"{FILE}-wal"
    if _file_id(path) in _OPEN:  # to read the file would give up the lock
        raise UserError(f"search '{folder.name}' is being run by this process")
    before = None
    for _ in range(_TRIES):
        content = path.read_bytes()
        if content == before:
            break
        (scratch / log.name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (scratch / log.name).write_bytes(log.read_bytes())
        before = content
    else:
        raise UserError(f"{path}: changes all the time while it is read; try again")
    (scratch / FILE).write_bytes(content)


def _share(handle: int, folder: Path) -> None:
    """Take the lock with which SQLite reads, until the file is closed."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    first_shared_byte, shared_bytes = 0x40000002, 510
    try:
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB, shared_bytes, first_shared_byte)
    except BlockingIOError as error:
        raise UserError(f"search '{folder.name}' is being run by {driver_in_words(folder)}") from error


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: is damaged ({reason}); restore it from a copy, or start a new search")


def _require(folder: Path) -> None:
    """Raise ``UserError`` if no search was started in a folder; name those beside it."""
    try:
        if (folder / FILE).is_file():
            return
        names = sorted(path.parent.name for path in folder.parent.glob(f"*/{FILE}"))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    there = (
        f"{folder.parent} holds {', '.join(names[-10:])}" if names else f"{folder.parent} holds no searches"
    )
    raise UserError(f"{folder}: no search was started there; {there}")


def _remove(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, innermost first."""
    for path in folders:
        with contextlib.suppress(OSError):
            path.rmdir()


def _signature(folder: Path) -> dict[str, Any]:
    """Return what the latest driver of a search wrote down about itself; empty if that cannot be read."""
    return read_document(folder / _DRIVER)


def driver_in_words(folder: Path) -> str:
    """Return the latest driver of a search, which may have ended, in words."""
    known = _signature(folder)
    if not {"pid", "host", "since"} <= known.keys():
        return "another process"
    return f"process {known['pid']} on {known['host']} since {known['since']}"
