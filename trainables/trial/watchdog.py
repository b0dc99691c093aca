"""What a worker leaves behind for the case that it dies: why nobody can ask it afterwards.

A worker that hangs ends itself (so that its trial can go on in another one) and leaves the stacks of its
threads. A worker that the kernel kills for want of memory cannot say so: what tells its death from any other
SIGKILL is that the kernel's count of such kills has risen since the worker wrote it down.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HANG = "hang.txt"
_KILLS = "oom_kills.txt"


class Watchdog:
    """Ends this process when it makes no progress. The clock needs no GIL, so any hang counts.

    Args:
        folder: Where notes are left, on the worker's own node.
        timeout: Seconds without a tick.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder = folder
        self.timeout = timeout
        self._wound = 0.0

    def start(self) -> None:
        """Write down how often the kernel has killed for want of memory; forget an earlier hang."""
        (self.folder / _KILLS).write_text(str(count_oom_kills()))
        (self.folder / _HANG).unlink(missing_ok=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch a block of work, which calls ``tick`` as it gets on."""
        with (self.folder / _HANG).open("w") as file:
            self._file = file
            self._wind()
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

    def tick(self) -> None:
        """Say that the work has got on; costs next to nothing."""
        if time.monotonic() - self._wound > min(1.0, self.timeout / 4):
            self._wind()

    def _wind(self) -> None:
        self._wound = time.monotonic()
        faulthandler.dump_traceback_later(self.timeout, exit=True, file=self._file)


@dataclass(frozen=True)
class Remains:
    """What a dead worker left behind.

    Attributes:
        killed_for_memory: Whether the kernel has killed a process of this node for want of memory since the
            worker last wrote its count down.
        hang: The innermost line of the code that hung, or an empty text.
    """

    killed_for_memory: bool
    hang: str


def examine(folder: str) -> Remains:
    """Return what a worker left in its folder; to be called on the node it ran on."""
    kills, hang = Path(folder, _KILLS), Path(folder, _HANG)
    before = int(kills.read_text()) if kills.exists() else None
    # The stack of the thread at work comes last, its innermost frame first.
    stack = hang.read_text().rpartition("Thread 0x")[2] if hang.exists() else ""
    frames = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ")]
    return Remains(
        killed_for_memory=before is not None and count_oom_kills() > before,
        hang=frames[0] if frames else "",
    )


def count_oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory, as far as can be seen from here.

    The sum of the machine's and the control group's count: the former is not there in every sandbox, and
    either rises with each kill. 0 where there is none.
    """
    total = 0
    for path in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return total
