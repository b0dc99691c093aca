"""Databases that MLflow keeps in a file: they are private, and several programs may make one at once."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from search.config.address import TrackingAddress

_Opened = TypeVar("_Opened")

_QUEUE = 300.0  # seconds that a search waits while others make the database
_QUIET = 2.0  # seconds without a change after which nobody makes tables any more
_LONGEST = 60.0  # seconds for which another program may make tables


def is_database(address: TrackingAddress) -> bool:
    """Return whether an address is one of a database that MLflow opens in this process."""
    return address.full.split(":", 1)[0].split("+")[0] in DATABASE_ENGINES


def open_database(address: TrackingAddress, open_: Callable[[], _Opened]) -> _Opened:
    """Return what ``open_`` returns, which opens a database and makes its tables if there are none.

    Searches that open one file take turns. Another program, such as ``mlflow ui``, takes no turn. While it
    makes tables, this search tries again.

    Raises:
        Exception: If the database cannot be opened. MLflow itself would try for minutes.
    """
    if address.file is None:
        _require_connection(address)
        return open_()
    with _turn(address.file):
        _create_privately(address.file)
        _require_connection(address)
        deadline = time.monotonic() + _LONGEST
        while True:
            before = _schema_version(address.file)
            try:
                return open_()
            except Exception:
                if time.monotonic() > deadline or not _changes(address.file, before):
                    raise


def make_private_folder(folder: Path) -> None:
    """Create a folder that only its owner can enter, with its parents; an existing one stays as it is."""
    if folder.is_dir():
        return
    make_private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    make_private_folder(file.parent)
    with FileLock(f"{file}.lock", timeout=_QUEUE, mode=0o600):
        yield


def _create_privately(file: Path) -> None:
    """Create an empty database that only its owner can read; SQLite's other files get its permissions."""
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _require_connection(address: TrackingAddress) -> None:
    engine = create_engine(make_url(address.full))
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _schema_version(file: Path) -> int:
    """Return a number that SQLite changes with each change of the tables."""
    connection = sqlite3.connect(file, timeout=_QUIET)
    try:
        return int(connection.execute("PRAGMA schema_version").fetchone()[0])
    except sqlite3.OperationalError:
        return -1  # locked: somebody writes
    finally:
        connection.close()


def _changes(file: Path, before: int) -> bool:
    """Return whether the tables have changed, or change soon; wait until they do so no longer."""
    seen, last, since = before, time.monotonic(), False
    while time.monotonic() - last < _QUIET:
        version = _schema_version(file)
        if version != seen:
            seen, last, since = version, time.monotonic(), True
        time.sleep(0.05)
    return since
