"""The store of a search on disk: one SQLite file, in which every event is one transaction."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.errors import UserError

FILE = "search.sqlite"
_VERSION = 2
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE asked (number INTEGER PRIMARY KEY, document TEXT);
CREATE TABLE trials (trial_id TEXT PRIMARY KEY, document TEXT) WITHOUT ROWID;
CREATE TABLE epochs (trial_id TEXT, epoch INTEGER, document TEXT, PRIMARY KEY (trial_id, epoch))
    WITHOUT ROWID;
"""


class SearchStore:
    """The state of a search: its settings, the sampler's proposals, trials and their epochs.

    Committed transactions survive if the process is killed or the machine loses power. While a store is open,
    no other process can open it. The operating system releases the lock when the process ends, however it
    ends.

    Use ``create``, ``open`` or ``read`` to make one.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._depth = 0

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any]) -> SearchStore:
        """Create the store of a new search, in one transaction.

        Args:
            folder: The search's folder; it is created.
            facts: Values that ``fact`` returns, by name; they must be valid in JSON.
        """
        folder.mkdir(parents=True, exist_ok=True)
        store = cls._opened(folder)
        with store.transaction():
            for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
                store._connection.execute(statement)
            store.put_facts({"version": _VERSION, **facts})
        store._sign()
        return store

    @classmethod
    def open(cls, folder: Path) -> SearchStore:
        """Open the store of a search that was started before.

        Raises:
            UserError: If there is none, if another process has it open, or if another version wrote it.
        """
        if not (folder / FILE).exists():
            raise UserError(f"{folder}: no search was started there; {_others(folder)}")
        store = cls._opened(folder)
        version = store.fact("version")
        if version != _VERSION:
            raise UserError(f"{folder / FILE}: was written by another version ({version}, not {_VERSION})")
        store._sign()
        return store

    @classmethod
    def _opened(cls, folder: Path) -> SearchStore:
        try:
            return cls(folder / FILE, _connect(folder / FILE))
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise UserError(f"{folder / FILE}: cannot be opened ({error})") from error
            raise UserError(f"search '{folder.name}' is being run by {_driver(folder)}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(f"{folder / FILE}: is no search's store ({error})") from error

    @classmethod
    def read(cls, folder: Path) -> SearchStore:
        """Return a copy of a store in memory, only for reading.

        Raises:
            UserError: If there is none, or if another process has it open.
        """
        if not (folder / FILE).exists():
            raise UserError(f"{folder}: no search was started there; {_others(folder)}")
        original = cls._opened(folder)
        copy = sqlite3.connect(":memory:", isolation_level=None)
        original._connection.backup(copy)
        original.close()
        return cls(folder / FILE, copy)

    def close(self) -> None:
        """Close the file and release its lock."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside the ``with`` statement together or not at all; may be nested."""
        if self._depth == 0:
            self._connection.execute("BEGIN")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._connection.execute("COMMIT")

    def fact(self, name: str) -> Any:
        """Return a value by its name; None if there is none."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else json.loads(row[0])

    def put_facts(self, facts: Mapping[str, Any]) -> None:
        """Write values by name: bytes, or values that are valid in JSON."""
        rows = [(name, v if isinstance(v, bytes) else json.dumps(v)) for name, v in facts.items()]
        self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def put_asked(self, number: int, document: Mapping[str, Any]) -> None:
        """Write a numbered proposal of the sampler, with what the sampler was told about it."""
        self._connection.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (number, json.dumps(document)))

    def asked(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the numbers and documents of the sampler's proposals, in order."""
        for number, document in self._connection.execute("SELECT * FROM asked ORDER BY number"):
            yield number, json.loads(document)

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
        for trial_id, document in self._connection.execute(
            "SELECT trial_id, document FROM epochs ORDER BY trial_id, epoch"
        ):
            epochs.setdefault(trial_id, []).append(json.loads(document))
        for trial_id, document in self._connection.execute(
            "SELECT * FROM trials ORDER BY length(trial_id), trial_id"
        ):
            yield trial_id, json.loads(document), epochs.get(trial_id, [])

    def _sign(self) -> None:
        """Write down which process has the store open, for error messages."""
        signature = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M")}
        (self.path.parent / "driver.json").write_text(json.dumps(signature))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    # In exclusive mode, a write-ahead log needs no shared memory, which network file systems lack.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")
    return connection


def _driver(folder: Path) -> str:
    try:
        driver = json.loads((folder / "driver.json").read_text())
    except (OSError, ValueError):
        return "another process"
    return f"process {driver['pid']} on {driver['host']} since {driver['since']}"


def _others(folder: Path) -> str:
    names = sorted(path.parent.name for path in folder.parent.glob(f"*/{FILE}"))
    if not names:
        return f"{folder.parent} holds no searches"
    return f"{folder.parent} holds {', '.join(names[-10:])}"
