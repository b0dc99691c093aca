"""Lengths and checksums of an entry's files, and whether they were compared since this machine started."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
import time
import zlib
from functools import cache
from pathlib import Path

#: Bytes that are summed to one number, and bytes that are read at a time.
_PAGE, _LOT = 4096, 2**20

#: Seconds for which a comparison holds.
_HOLDS = 86_400

#: Entries that this process has compared, with their states.
_compared: dict[Path, str] = {}


def manifest_path(entry: Path) -> Path:
    """Return the path of an entry's manifest."""
    return entry.parent / f"{entry.name}.manifest"


def describe(entry: Path) -> str:
    """Return the content of a manifest for a file or folder."""
    return json.dumps(
        {_name(entry, file): [file.stat().st_size, checksum(file)] for file in _files(entry)}, indent=1
    )


def damage(entry: Path) -> str | None:
    """Return what is wrong with an entry that exists, or None. All of its bytes are read."""
    try:
        expected = json.loads(manifest_path(entry).read_text())
        for name, (size, wanted) in expected.items():
            file = entry / name if name else entry
            label = name or entry.name
            found = file.stat().st_size
            if found != size:
                return f"{label} has {found:,} bytes instead of {size:,}"
            if checksum(file) != wanted:
                return f"the content of {label} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"it cannot be read: {error}"
    return None


def checksum(path: Path) -> int:
    """Return a checksum of a file's content.

    The 64-bit words of each page are added up, and a CRC is taken of the sums. That is as fast as memory can
    be read; a CRC or hash of all bytes would take more than a hundredth of the time in which a GPU computes
    features. It finds what a power cut or a disk does: pages that are zeroed, old, swapped or changed.
    """
    import numpy as np  # not above, because every command line imports this module

    crc = 0
    buffer = np.zeros(_LOT, np.uint8)
    with path.open("rb") as file:
        while count := file.readinto(buffer.data):
            used = -(-count // _PAGE) * _PAGE
            buffer[count:used] = 0
            sums = buffer[:used].view(np.uint64).reshape(-1, _PAGE // 8).sum(axis=1)
            crc = zlib.crc32(sums.tobytes(), crc)
    return crc


def was_compared(entry: Path) -> bool:
    """Return whether an entry was compared with its manifest since this machine started, at most a day ago.

    Whoever changes a file, even with its length and time of modification kept, also changes the time of its
    status, which is part of what is looked at here. After a power cut, the machine has started anew.
    """
    state = _state(entry)
    if state is None:
        return False
    if _compared.get(entry) == state:
        return True
    with contextlib.suppress(OSError):
        marker = _marker(entry)
        return marker.read_bytes() == state.encode() and 0 <= time.time() - marker.stat().st_mtime < _HOLDS
    return False


def note_compared(entry: Path) -> None:
    """Note that an entry was compared with its manifest, for this process and the others of this machine."""
    state = _state(entry)
    if state is None:
        return
    _compared[entry] = state
    with contextlib.suppress(OSError):  # the folder may be another user's
        marker = _marker(entry)
        for other in _markers(entry):
            if other != marker and time.time() - other.stat().st_mtime > _HOLDS:
                other.unlink()
        marker.write_text(state)


def remove_notes(entry: Path) -> None:
    """Remove an entry's manifest and the notes about comparisons."""
    _compared.pop(entry, None)
    for path in (manifest_path(entry), *_markers(entry)):
        if path.is_dir():  # no file of ours, but nothing can be written in its place
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def _files(entry: Path) -> list[Path]:
    return sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]


def _name(entry: Path, file: Path) -> str:
    return "" if file == entry else file.relative_to(entry).as_posix()


def _state(entry: Path) -> str | None:
    """Return a hash that changes when a file of the entry or its manifest is changed; None if one is gone."""
    digest = hashlib.sha256()
    try:
        digest.update(manifest_path(entry).read_bytes())
        for file in _files(entry):
            stat = file.stat()
            what = (_name(entry, file), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            digest.update(repr(what).encode())
    except OSError:
        return None
    return digest.hexdigest()


def _marker(entry: Path) -> Path:
    """Return the path of the note that this machine has compared an entry; each machine has its own."""
    return entry.parent / f".{entry.name}.compared-{_boot()}"


def _markers(entry: Path) -> list[Path]:
    return list(entry.parent.glob(f".{entry.name}.compared-*"))


@cache
def _boot() -> str:
    """Return an identifier of this machine that changes when it starts anew, as far as the system has one."""
    try:
        identifier = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        identifier = platform.node()
    return hashlib.sha256(identifier.encode()).hexdigest()[:12]
