"""Ends what a local Ray leaves behind; a process of its own, which outlives the search however that ends.

Ray (2.60) lets its agents and workers run for up to a minute after the process that started them was killed.
This process waits for the search's end, kills what still uses the search's folder, and removes the folder.
It imports nothing of this project, so that it starts at once and stays small.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

#: How the folder of a local Ray is called; it is followed by random characters.
PREFIX = "pf-ray-"
#: File in the folder that is locked as long as the folder is in use.
LOCK = "lock"
#: Seconds that processes may take to end after they were killed.
_PATIENCE = 10.0


def main(folder: Path, driver: int) -> None:
    """Wait until the driver closes standard input, which its death does, too; then end its Ray.

    Args:
        folder: The folder of its Ray.
        driver: Process id of the driver.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # may be sent to all processes of a job or a terminal
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    unlocked = folder / "unlocked"
    with unlocked.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(folder / LOCK)
        print("ready", flush=True)
        remove_abandoned(folder.parent)
        sys.stdin.read()
        deadline = time.monotonic() + _PATIENCE
        while (left := users(folder, {os.getpid(), driver})) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=0.5)
        shutil.rmtree(folder, ignore_errors=True)


def users(folder: Path, others: set[int]) -> list[psutil.Process]:
    """Return the processes of a Ray: its folder is in their command line, or they have files of it open.

    Those that do not belong to it are left out: who reads its logs, and who joined it from elsewhere.

    Args:
        folder: The folder of a Ray.
        others: Ids of processes to leave out.
    """
    inside = f"{folder}{os.sep}"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, IndexError):
            if process.pid in others or process.uids().real != os.getuid():
                continue
            executable = Path(process.exe())
            if executable != Path(sys.executable).resolve() and "ray" not in executable.parts:
                continue
            words = process.cmdline()
            named = any(inside in word for word in words)
            if named or (words[0].startswith("ray::") and _has_open(process, inside)):
                found.append(process)
    return found


def _has_open(process: psutil.Process, inside: str) -> bool:
    return any(file.path.startswith(inside) for file in process.open_files())


def remove_abandoned(parent: Path) -> None:
    """Remove folders of this user whose reaper was killed, too."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid():
                continue
            with os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW), "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
