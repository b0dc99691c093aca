"""Entries of the cache: built once, checked before they are used, and kept while they are in use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from trainables.cache.folder import ADVICE, make_folder
from trainables.cache.manifest import (
    damage,
    describe,
    manifest_path,
    note_compared,
    remove_notes,
    was_compared,
)
from trainables.disk import move_synced, writing
from trainables.errors import UserError
from trainables.notices import tell
from trainables.progress import Tick, locked, no_tick

#: Manifests that this process holds open, with a shared lock, because it uses their entries.
_held: dict[Path, IO[bytes]] = {}
#: Numbers of objects for which entries are held, where it is not for as long as the process runs.
_users: Counter[Path] = Counter()


def build_once(target: Path, build: Callable[[Path], None], tick: Tick = no_tick) -> bool:
    """Create ``target`` by calling ``build``, unless it exists undamaged. A partial target is never visible.

    If several processes ask for the same target at the same time, one builds it and the others wait. No other
    process removes the target while this one runs.

    Args:
        target: The file or folder to create.
        build: Called with a temporary path beside ``target``; must create a file or folder there.
        tick: Called while another process that builds it makes progress.

    Returns:
        Whether ``build`` ran.

    Raises:
        DiskFullError: If there is no space for it.
        UserError: If it has to be created and its folder may not be written.
    """
    if ready(target, tick=tick):
        return False
    with building(target.parent, target.name, tick) as scratch:
        if checked(target):
            return False
        build(scratch / target.name)
        publish(scratch / target.name, target)
    return True


def ready(entry: Path, lock: str | None = None, tick: Tick = no_tick) -> bool:
    """Return whether an entry exists undamaged. If so, it counts as used, and this process holds it.

    An entry is compared with its manifest by one process of a machine, once a day and after each start of the
    machine. In a folder that this user may not write, each process compares it once.

    Args:
        entry: The entry.
        lock: The name under which it is built; None is the entry's own.
        tick: Called while another process that builds under that name makes progress.

    Raises:
        UserError: If it is damaged and its folder may not be written.
    """
    if not os.path.exists(entry):
        return False
    if _hold(entry) and was_compared(entry):
        return True
    try:
        with _locked(entry.parent, lock or entry.name, tick):
            return _hold(entry) and (was_compared(entry) or _compare(entry) is None)
    except OSError as error:
        reason = _compare(entry) if _hold(entry) else "it has no manifest"
        if reason is None:
            return True
        raise UserError(
            f"cache entry {entry} is damaged ({reason}), and its folder cannot be written; {ADVICE}"
        ) from error


def checked(entry: Path) -> bool:
    """Return whether an entry exists undamaged, as ``ready`` does; say so and remove it if it is damaged.

    Call it inside the ``with`` statement of ``building``.
    """
    if not os.path.exists(entry):
        return False
    reason = None if _hold(entry) else "it has no manifest"
    if reason is None and not was_compared(entry):
        reason = _compare(entry)
    if reason is None:
        return True
    tell(f"cache entry {entry} was damaged ({reason}); it is computed again")
    release(entry)
    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    remove_notes(entry)
    return False


@contextlib.contextmanager
def building(folder: Path, name: str, tick: Tick = no_tick) -> Iterator[Path]:
    """Yield an empty temporary folder to build entries in, while no other process builds under that name.

    What killed processes have left in the folder is removed.

    Args:
        folder: The folder of the entries.
        name: The name of what is built: that of the entry, or another one for several entries together.
        tick: Called while another process that builds under that name makes progress.

    Raises:
        DiskFullError: If the disk is full, or gets full in the body of the ``with`` statement.
        UserError: If the folder may not be written.
    """
    make_folder(folder)
    with writing(folder, ADVICE), _locked(folder, name, tick):
        remove_leftovers(folder)
        scratch = _scratch(folder, name)
        # A leftover folder belongs to a killed process, because the lock keeps running processes out.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def being_built(folder: Path, name: str) -> bool:
    """Return whether a process builds under a name; see ``building``."""
    return building_now(_scratch(folder, name))


def _scratch(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def _locked(folder: Path, name: str, tick: Tick) -> contextlib.AbstractContextManager[None]:
    """Return the lock of a name under which something is built; its files show that the builder works."""
    return locked(_lock_path(folder, name), lambda: _scratch(folder, name).rglob("*"), tick)


def publish(source: Path, target: Path) -> None:
    """Give a complete entry its final name, with a manifest. It survives a power cut from then on."""
    written = source.parent / f".{source.name}.new-manifest"
    written.write_text(describe(source))
    move_synced(written, manifest_path(target))
    move_synced(source, target)
    _hold(target)
    note_compared(target)


def entries_of(folder: Path) -> list[Path]:
    """Return the entries in a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.glob("*")
        if not path.name.startswith(".") and path.suffix not in (".lock", ".manifest")
    )


def partials(folder: Path) -> list[Path]:
    """Return the temporary folders of a folder, also those of killed processes."""
    return sorted(folder.glob(".*.partial"))


def remove_leftovers(folder: Path) -> None:
    """Remove temporary folders whose process has ended."""
    for path in partials(folder):
        with contextlib.suppress(OSError):
            remove_leftover(path)


def remove_leftover(path: Path) -> bool:
    """Remove a temporary folder if its process has ended; return whether it did.

    Raises:
        OSError: If it may not be removed.
    """
    try:
        with FileLock(_lock_of_partial(path), timeout=0):
            shutil.rmtree(path)
    except Timeout:
        return False
    except FileNotFoundError:  # another process was faster
        pass
    return True


def building_now(path: Path) -> bool:
    """Return whether a process is building in a temporary folder."""
    try:
        with FileLock(_lock_of_partial(path), timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def remove(entry: Path, *, used: bool = False) -> bool:
    """Remove an entry unless a process uses it; return whether it was removed.

    Args:
        entry: The entry.
        used: Whether to remove it even if a process uses it, as is safe for a file that the process has
            opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            manifest = stack.enter_context(manifest_path(entry).open("rb"))
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, IsADirectoryError):
            pass
        except OSError:
            if not used:
                return False
        if entry.is_dir():
            # Renamed first, so that no half of it is ever visible.
            gone = entry.parent / f".{entry.name}.partial"
            shutil.rmtree(gone, ignore_errors=True)
            os.replace(entry, gone)
            shutil.rmtree(gone, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        remove_notes(entry)
    return True


def in_use(entry: Path) -> bool:
    """Return whether a process uses an entry."""
    with (
        contextlib.suppress(FileNotFoundError, IsADirectoryError),
        manifest_path(entry).open("rb") as manifest,
    ):
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def last_used(entry: Path) -> float:
    """Return when an entry was last used, in seconds since 1970; 0 if it has no manifest."""
    try:
        return manifest_path(entry).stat().st_mtime
    except OSError:
        return 0.0


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder. What is removed meanwhile counts nothing."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            total += 0 if file.is_dir() else file.stat().st_size
    return total


def hold_for(entry: Path, user: object) -> None:
    """Hold an entry that is ``ready`` only for as long as this object, and others given before, exist."""
    _users[entry] += 1
    weakref.finalize(user, _leave, entry)


def _leave(entry: Path) -> None:
    _users[entry] -= 1
    if not _users[entry]:
        del _users[entry]
        release(entry)


def release(entry: Path) -> None:
    """Stop holding an entry, so that it may be removed, unless an object needs it."""
    if not _users[entry] and (held := _held.pop(entry, None)):
        held.close()


def _hold(entry: Path) -> bool:
    """Mark an entry as used now and as in use by this process; return False if it has no manifest."""
    path = manifest_path(entry)
    try:
        held = _held.get(entry)
        if held is None or os.fstat(held.fileno()).st_ino != path.stat().st_ino:
            release(entry)
            held = path.open("rb")
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(held, fcntl.LOCK_SH)
            _held[entry] = held
            # It may have been removed while this process waited for the lock.
            if os.fstat(held.fileno()).st_ino != path.stat().st_ino or not os.path.exists(entry):
                release(entry)
                return False
    except (FileNotFoundError, IsADirectoryError):
        release(entry)
        return False
    except PermissionError as error:
        raise UserError(f"cache entry {entry} cannot be read ({error.strerror}); {ADVICE}") from error
    with contextlib.suppress(OSError):  # it may be another user's
        os.utime(path)
    return True


def _compare(entry: Path) -> str | None:
    """Compare an entry with its manifest; return what is wrong with it, or None."""
    reason = damage(entry)
    if reason is None:
        note_compared(entry)
    return reason


def _lock_of_partial(path: Path) -> Path:
    return _lock_path(path.parent, path.name.removeprefix(".").removesuffix(".partial"))


def _lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
