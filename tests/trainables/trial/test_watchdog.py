"""What a worker leaves behind when it hangs or is killed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from trainables.trial import watchdog
from trainables.trial.watchdog import Watchdog, count_oom_kills, examine

#: Ticks for longer than the timeout, then hangs with the GIL held.
HANGS = """
import ctypes, sys, time
from pathlib import Path
from trainables.trial.watchdog import Watchdog

def forward():
    ctypes.PyDLL(None).sleep(60)

dog = Watchdog(Path(sys.argv[1]), timeout=0.6)
dog.start()
with dog.watching():
    for _ in range(10):
        time.sleep(0.1)
        dog.tick()
time.sleep(0.8)  # nobody watches
print("fine so far", flush=True)
with dog.watching():
    forward()
"""


def test_a_hang_ends_the_process_and_says_where(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "fine so far\n")
    remains = examine(str(tmp_path))
    assert remains.hang.endswith("in forward")
    assert not remains.killed_for_memory
    Watchdog(tmp_path, 60).start()
    assert examine(str(tmp_path)).hang == "", "of an earlier attempt"


#: Hangs in another thread than the first one, as workers of Ray Train train in.
IN_A_THREAD = """
import sys, threading, time
from pathlib import Path
from trainables.trial.watchdog import Watchdog

def train():
    dog = Watchdog(Path(sys.argv[1]) / "made", timeout=0.3)
    dog.start()
    with dog.watching():
        time.sleep(60)

def wait():
    threading.Event().wait(60)

threading.Thread(target=train).start()
threading.Thread(target=wait).start()
wait()
"""


def test_the_thread_that_hung_is_named(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_THREAD, str(tmp_path)], timeout=30)
    assert done.returncode == 1
    assert examine(str(tmp_path / "made")).hang.endswith("in train")


def test_a_tick_that_nobody_waits_for_starts_no_clock(tmp_path) -> None:
    dog = Watchdog(tmp_path, 0.1)
    dog.start()
    dog.tick()
    time.sleep(0.3)  # or this process would be gone


def test_the_kernels_count_is_evidence_of_a_kill(tmp_path, monkeypatch) -> None:
    Watchdog(tmp_path, 60).start()
    assert not examine(str(tmp_path)).killed_for_memory
    before = count_oom_kills()
    monkeypatch.setattr(watchdog, "count_oom_kills", lambda: before + 1)
    assert examine(str(tmp_path)).killed_for_memory


def test_a_worker_that_left_nothing_tells_nothing(tmp_path) -> None:
    remains = examine(str(tmp_path / "nowhere"))
    assert (remains.killed_for_memory, remains.hang) == (False, "")


def test_the_clock_stops_when_the_work_raises(tmp_path) -> None:
    dog = Watchdog(tmp_path, 0.2)
    dog.start()
    with pytest.raises(ValueError, match="of another kind"), dog.watching():
        raise ValueError("of another kind")
    time.sleep(0.3)  # or this process would be gone


def test_links_in_the_folder_are_not_followed(tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("hang.txt", "oom_kills.txt"):
        (folder / name).symlink_to(precious)
    dog = Watchdog(folder, 60)
    dog.start()
    (folder / "hang.txt").symlink_to(precious)
    with dog.watching():
        pass
    assert precious.read_text() == "mine"
