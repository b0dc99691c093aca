"""Reports of progress, by which a watchdog tells work from a hang, and locks whose waiters can tell, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

#: Function that is called to report progress.
Tick = Callable[[], None]

#: Seconds between two looks at the files of the process that holds a lock.
_LOOK = 1.0


def no_tick() -> None:
    """Ignore progress."""


@contextmanager
def locked(path: Path, signs: Callable[[], Iterable[Path]], tick: Tick = no_tick) -> Iterator[None]:
    """Hold a lock that only one process at a time can hold.

    While another process holds the lock, ``tick`` is called whenever that process has changed its files.
    Waiting for a process that works is no hang, and waiting for one that hangs is one.

    Args:
        path: The lock's file.
        signs: Returns the files that the holder writes while it works; they need not exist.
        tick: Reports progress of this process.
    """
    lock = FileLock(path)
    seen: object = None
    while True:
        try:
            lock.acquire(timeout=_LOOK)
            break
        except Timeout:
            found = _state(signs())
            if found != seen:
                seen = found
                tick()
    try:
        tick()
        yield
    finally:
        lock.release()


def _state(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return the names, sizes and times of the files that exist."""
    found = []
    with suppress(OSError):  # the holder moves its files away at any time
        for path in paths:
            with suppress(OSError):
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns))
    return sorted(found)
