"""What the cache holds, and how it is made smaller."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.cache.entries import (
    building_now,
    entries_of,
    in_use,
    last_used,
    partials,
    remove,
    remove_leftover,
    size_of,
)
from trainables.cache.folder import cache_dir
from trainables.errors import unknown

#: Kinds of entries, with what they are.
KINDS = {
    "included": "included datasets that are made from packages",
    "prepared": "prepared datasets",
    "features": "outputs of frozen layers",
    "pooled": "pooled vectors of frozen encoders",
    "columns": "what was measured of columns of datasets",
    "encoders": "bundled encoders, converted",
    "predictions": "predictions of memory",
    "calibrations": "measurements of this machine's device",
    "searches": "states of searches whose trials are stored remotely",
    "partial": "what is being written, or was left by killed processes",
}

#: Kinds that cannot be computed again. They are removed only if they are named.
PRECIOUS = ("calibrations", "searches")

_FOLDERS = ("included", "prepared", "features", "pooled", "columns", "encoders")


@dataclass(frozen=True)
class Item:
    """Something in the cache.

    Attributes:
        kind: A key of ``KINDS``.
        path: The file or folder.
        size: Its size in bytes.
        used: When it was last used, in seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    used: float

    @property
    def in_use(self) -> bool:
        """Whether a running process uses it or writes it."""
        if self.kind == "partial":
            return building_now(self.path)
        if self.kind == "searches":
            return _is_locked(self.path / "search.sqlite")
        return self.kind in _FOLDERS and in_use(self.path)

    def remove(self) -> bool:
        """Remove it unless a running process uses it; return whether it was removed.

        Raises:
            OSError: If it may not be removed.
        """
        if self.kind in _FOLDERS:
            return remove(self.path)
        if self.kind == "partial":
            return remove_leftover(self.path)
        if self.in_use:
            return False
        if self.path.suffix == ".sqlite":
            return _emptied(self.path)
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        return True


def contents(kinds: Collection[str] = ()) -> list[Item]:
    """Return what the cache holds, the least recently used first.

    Args:
        kinds: The kinds to return; none means all.

    Raises:
        UserError: If a kind is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of cache entry", kind, KINDS)
    top = cache_dir()
    found: list[tuple[str, Path]] = []
    for name in _FOLDERS:
        found += [(name, path) for path in entries_of(top / name)]
        found += [("partial", path) for path in partials(top / name)]
    found += [("predictions", path) for path in sorted(top.glob("predictions.*")) if "-" not in path.name]
    found += [("calibrations", path) for path in sorted(top.glob("calibrations.json"))]
    found += [("searches", path.parent) for path in sorted((top / "searches").rglob("search.sqlite"))]
    items = []
    for kind, path in found:
        with contextlib.suppress(FileNotFoundError):  # another process may have removed it
            used = last_used(path) if kind in _FOLDERS else 0.0
            items.append(Item(kind, path, size_of(path), used or _changed(path)))
    chosen = kinds or KINDS
    return sorted((item for item in items if item.kind in chosen), key=lambda item: item.used)


def summary(kinds: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return a row for each kind: entries, bytes, how many are in use, and for how long they were not used.

    Args:
        kinds: The kinds; none means all.

    Raises:
        UserError: If a kind is unknown.
    """
    items, now = contents(kinds), time.time()
    rows = []
    for kind in (kind for kind in KINDS if kind in (kinds or KINDS)):
        own = [item for item in items if item.kind == kind]
        ages = [max(now - item.used, 0.0) for item in own]
        rows.append(
            {
                "kind": kind,
                "description": KINDS[kind],
                "entries": len(own),
                "bytes": sum(item.size for item in own),
                "in_use": sum(item.in_use for item in own),
                "unused_seconds": [min(ages), max(ages)] if ages else None,
            }
        )
    return rows


def shrink(
    kinds: Collection[str] = (), *, older_than: float | None = None, max_size: int | None = None
) -> tuple[list[Item], list[tuple[Item, str]]]:
    """Remove entries, but none that a running process uses.

    Args:
        kinds: The kinds to remove; none means all that can be computed again.
        older_than: Remove what was not used for so many seconds.
        max_size: Remove the least recently used entries until the rest takes so many bytes. Without both
            limits, everything is removed.

    Returns:
        What was removed; and what should have been removed but was not, with the reason.

    Raises:
        UserError: If a kind is unknown.
    """
    items = contents(kinds or [kind for kind in KINDS if kind not in PRECIOUS])
    removed: list[Item] = []
    kept: list[tuple[Item, str]] = []

    def attempt(chosen: Sequence[Item]) -> None:
        for item in chosen:
            try:
                done = item.remove()
            except OSError as error:
                kept.append((item, str(error.strerror or error)))
                continue
            if done:
                removed.append(item)
            else:
                kept.append((item, "in use"))

    now = time.time()
    if older_than is not None:
        attempt([item for item in items if now - item.used > older_than])
    elif max_size is None:
        attempt(items)
    if max_size is not None:
        tried = {item.path for item in (*removed, *(item for item, _ in kept))}
        excess = sum(item.size for item in items) - sum(item.size for item in removed) - max_size
        for item in items:
            if excess > 0 and item.path not in tried:
                attempt([item])
                excess -= item.size if removed and removed[-1] is item else 0
    return removed, kept


def _changed(path: Path) -> float:
    """Return when a file, or the latest file of a folder, was changed."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max(file.stat().st_mtime for file in files)


def _is_locked(database: Path) -> bool:
    """Return whether a process has a SQLite file open that it keeps locked."""
    if not database.exists():
        return False
    connection = sqlite3.connect(database, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False  # damaged
    finally:
        connection.close()
    return False


def _emptied(database: Path) -> bool:
    """Empty the file of predictions, which running processes may have open, or remove it if it is damaged."""
    connection = sqlite3.connect(database, timeout=5, isolation_level=None)
    try:
        connection.execute("DELETE FROM memo")
        connection.execute("VACUUM")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        database.unlink(missing_ok=True)
    finally:
        connection.close()
    return True
