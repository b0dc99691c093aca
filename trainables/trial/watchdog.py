"""Notes in files from which the cause of a worker's death can be determined.

A worker that hangs writes the stacks of its threads and ends itself, so that another worker can resume its
trial. A worker that the kernel kills because memory ran out cannot write anything. Such a death differs from
any other SIGKILL in that the kernel's count of out-of-memory kills has risen since the worker recorded it.
"""

from __future__ import annotations

import faulthandler
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: File with the stacks of a process that hung.
NOTE = "hang.txt"
_KILLS = "oom_kills.txt"
#: First line of the note of a hang, and how Python begins the stack of a thread in it.
_WATCHED = "watched thread"
_THREAD = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)", re.MULTILINE)


class Watchdog:
    """Ends this process when it makes no progress. The timer works even if a thread holds the GIL.

    Args:
        folder: Folder for the notes, on the worker's own node.
        timeout: Seconds without a tick after which the process ends.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder = folder
        self.timeout = timeout
        self._wound = 0.0
        self._file: IO[str] | None = None

    def start(self) -> None:
        """Record the kernel's count of out-of-memory kills, and delete the note of an earlier hang."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _anew(self.folder / _KILLS) as file:
            file.write(str(count_oom_kills()))
        (self.folder / NOTE).unlink(missing_ok=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch a block of this thread's work, which must call ``tick`` regularly."""
        with _anew(self.folder / NOTE) as file:
            print(f"{_WATCHED} {threading.get_ident():#x}", file=file, flush=True)
            self._file = file
            self._wind()
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                self._file = None

    def tick(self) -> None:
        """Report progress; a call takes almost no time, and does nothing if nobody watches."""
        if self._file is not None and time.monotonic() - self._wound > min(1.0, self.timeout / 4):
            self._wind()

    def _wind(self) -> None:
        assert self._file is not None
        self._wound = time.monotonic()
        faulthandler.dump_traceback_later(self.timeout, exit=True, file=self._file)


def _anew(path: Path) -> IO[str]:
    """Open a new file: others can write to Ray's folder on a cluster, and may have put a link there."""
    path.unlink(missing_ok=True)
    return path.open("x")


@dataclass(frozen=True)
class Remains:
    """The cause of a worker's death, as far as its notes show it.

    Attributes:
        killed_for_memory: Whether the kernel has killed a process of this node because memory ran out, since
            the worker last recorded the count.
        hang: The innermost line of the code that hung; empty if nothing hung.
    """

    killed_for_memory: bool
    hang: str


def examine(folder: str) -> Remains:
    """Read the notes in a worker's folder; call this on the node on which the worker ran."""
    kills, hang = Path(folder, _KILLS), Path(folder, NOTE)
    before = int(kills.read_text()) if kills.exists() else None
    stack = _watched_stack(hang.read_text()) if hang.exists() else ""
    # The innermost frame comes first.
    frames = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ")]
    return Remains(
        killed_for_memory=before is not None and count_oom_kills() > before,
        hang=frames[0] if frames else "",
    )


def _watched_stack(note: str) -> str:
    """Return the stack of the thread that was watched; empty if nothing hung."""
    head, _, stacks = note.partition("\n")
    _, *found = _THREAD.split(stacks)
    by_thread = {int(thread, 16): stack for thread, stack in zip(found[::2], found[1::2], strict=True)}
    return by_thread.get(int(head.removeprefix(_WATCHED), 16), "") if by_thread else ""


def count_oom_kills() -> int:
    """Return the number of processes that the kernel has killed because memory ran out.

    The result is the sum of the machine's and the control group's count. A container may hide one of them;
    a hidden count is 0.
    """
    total = 0
    for path in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return total
