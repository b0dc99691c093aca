"""A store of predictions on disk, in one file of the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.cache import cache_dir

#: Packages on whose version a prediction depends.
_PACKAGES = ("torch", "transformers", "peft")

#: Folders and files of ``trainables`` on which a prediction depends.
_RELEVANT = ("configuration.py", "elastic.py", "memory", "methods", "step", "supernet", "tasks", "towers")


class PredictionMemo:
    """Stores a computed value for a text, as long as the program and its libraries do not change.

    If the file cannot be used (no space, no permission, locked, damaged), nothing is stored and no error is
    raised, because all values can be computed again.

    Args:
        path: The file; None takes ``predictions.sqlite`` in the cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "predictions.sqlite"
        self._database: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=5, isolation_level=None)
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute("CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, content: str) -> dict[str, Any] | None:
        """Return the value that was stored for a text, or None."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                query = "SELECT value FROM memo WHERE key = ?"
                row = self._database.execute(query, (_key(content),)).fetchone()
                if row:
                    value: dict[str, Any] = json.loads(row[0])
                    return value
        return None

    def put(self, content: str, value: dict[str, Any]) -> None:
        """Store a value for a text; the value must be a JSON object."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute(
                    "INSERT OR REPLACE INTO memo VALUES (?, ?)", (_key(content), json.dumps(value))
                )


def _key(content: str) -> str:
    return hashlib.sha256(f"{_program()}{content}".encode()).hexdigest()


@cache
def _program() -> str:
    """Return a hash of the source files and library versions on which a prediction depends."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _PACKAGES).encode())
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] in _RELEVANT:
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
