"""Writing to disk: errors in one line, space that is reserved beforehand, files that survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainables.errors import DiskFullError, UserError, chain
from trainables.units import GIB, MIB

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Texts, in lower case, of errors that have no error number: those of safetensors and SQLite.
_FULL_TEXTS = ("no space left on device", "disk quota exceeded", "database or disk is full")
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
#: Error numbers with which a file system says that it cannot reserve space.
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, means that a disk or quota is full.

    ``torch.save`` keeps the cause only if it writes to an open file; with a path, it loses it.
    """
    return any(_says_full(link) for link in chain(error))


@contextlib.contextmanager
def writing(folder: Path, advice: str) -> Iterator[None]:
    """Give the errors of a disk one line that names the folder.

    Args:
        folder: The folder to which the body of the ``with`` statement writes.
        advice: What the user can do about it, apart from making space.

    Raises:
        DiskFullError: If the disk or quota is full.
        UserError: If the folder may not be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(folder, advice) from error
        if isinstance(error, OSError) and (reason := _refusal(error, folder)):
            raise UserError(f"{folder} cannot be written ({reason}); {advice}") from error
        raise


def disk_full(folder: Path, advice: str, needed: int | None = None) -> DiskFullError:
    """Return the error for a disk without enough space.

    Args:
        folder: The folder to which something was to be written.
        advice: What the user can do about it, apart from making space.
        needed: Number of bytes that were to be written, if it is known.
    """
    free = f"{size_text(free_space(folder))} free"
    wanted = "" if needed is None else f", {size_text(needed)} needed"
    return DiskFullError(
        f"no space left on the disk or quota of {folder} ({free}{wanted}): make space, or {advice}"
    )


def free_space(folder: Path) -> int:
    """Return the bytes that this user may still write to the disk of a folder, which need not exist yet."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size_text(size: int) -> str:
    """Return a number of bytes in words."""
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{size / MIB:.0f} MiB" if size >= 10 * MIB else f"{size / MIB:.1f} MiB"


def reserve(file: IO[bytes], size: int) -> None:
    """Reserve space for a file, where the file system can, so that a full disk shows before the work.

    Raises:
        OSError: If the disk or quota is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for below in path.iterdir():
            sync(below)
    sync_entry(path)


def sync_entry(path: Path) -> None:
    """Wait until a file is on the disk, or the names of what is in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def move_synced(source: Path, target: Path) -> None:
    """Give a file or folder its final name, under which it is complete even after a power cut."""
    sync(source)
    os.replace(source, target)
    with contextlib.suppress(OSError):
        sync_entry(target.parent)


def _says_full(error: BaseException) -> bool:
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    text = str(error).lower()
    return any(known in text for known in _FULL_TEXTS)


def _refusal(error: OSError, folder: Path) -> str | None:
    """Return why a folder, or something in it, may not be written; None if the error has another cause."""
    if not isinstance(error.filename, str | bytes):
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    if path != folder and folder not in path.parents and path not in folder.parents:
        return None
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file is in the way"
    if error.errno in _REFUSED or (error.errno == errno.ENOENT and not os.path.exists(folder)):
        return error.strerror
    return None
