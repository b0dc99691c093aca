"""A store of computed values on disk, in one file of the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.cache.folder import cache_dir, make_folder
from trainables.errors import UserError
from trainables.notices import tell


class Memo:
    """Stores a computed value for a text, as long as the program and its libraries do not change.

    If the file cannot be used (no space, no permission, locked), nothing is stored and no error is raised,
    because all values can be computed again. A damaged file is set aside, with a line that says so.

    Args:
        sources: Modules, and folders of modules, on whose text the values depend.
        packages: Packages on whose versions the values depend.
        path: The file; None takes ``predictions.sqlite`` in the cache folder.
    """

    def __init__(self, sources: Iterable[Path], packages: Iterable[str], path: Path | None = None) -> None:
        self.path = path or cache_dir() / "predictions.sqlite"
        self._sources = tuple(sources)
        self._packages = tuple(packages)
        self._database: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, UserError):
            make_folder(self.path.parent)
            self._open()

    def get(self, content: str) -> dict[str, Any] | None:
        """Return the value that was stored for a text, or None."""
        row = self._run("SELECT value FROM memo WHERE key = ?", (self._key(content),))
        if row is None:
            return None
        checksum, _, text = str(row[0]).partition(" ")
        if checksum != _checksum(text):
            self._set_aside("a value in it is not what was written")
            return None
        value: dict[str, Any] = json.loads(text)
        return value

    def put(self, content: str, value: dict[str, Any]) -> None:
        """Store a value for a text; the value must be a JSON object."""
        text = json.dumps(value)
        stored = f"{_checksum(text)} {text}"
        self._run("INSERT OR REPLACE INTO memo VALUES (?, ?)", (self._key(content), stored))

    def _key(self, content: str) -> str:
        return hashlib.sha256(f"{self._program}{content}".encode()).hexdigest()

    @cached_property
    def _program(self) -> str:
        """A hash of the modules and library versions on which values depend."""
        digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in self._packages).encode())
        for source in self._sources:
            for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
                digest.update(str(path.relative_to(source.parent)).encode() + path.read_bytes())
        return digest.hexdigest()

    def _open(self) -> None:
        try:
            self._database = sqlite3.connect(self.path, timeout=5, isolation_level=None)
        except sqlite3.OperationalError:  # no permission, or a folder
            return
        self._run("PRAGMA synchronous = OFF")
        self._run("CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT)")

    def _run(self, statement: str, values: tuple[str, ...] = ()) -> Any:
        """Run a statement and return its first row; None if there is none or the file cannot be used."""
        if self._database is None:
            return None
        try:
            return self._database.execute(statement, values).fetchone()
        except sqlite3.OperationalError:  # no space, no permission, locked
            return None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter in an error's own message
            self._set_aside(str(error))
            return None

    def _set_aside(self, reason: str) -> None:
        """Rename a damaged file and go on with a new one."""
        assert self._database is not None
        self._database.close()
        self._database = None
        tell(f"{self.path} was damaged ({reason}); what it held is made again")
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path.with_suffix(".damaged"))
            for suffix in ("-journal", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            self._open()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
