"""Waiting for a process that works is no hang; waiting for one that hangs is one."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from trainables import progress
from trainables.progress import locked


@pytest.mark.parametrize("works", [True, False], ids=["works", "hangs"])
def test_who_waits_for_a_lock_reports_the_progress_of_its_holder(tmp_path, monkeypatch, works) -> None:
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    partial = tmp_path / "x.partial"
    held, ticks = threading.Event(), []

    def signs() -> list[Path]:
        return list(tmp_path.glob("*.partial"))

    def hold() -> None:
        with locked(tmp_path / "lock", signs):
            held.set()
            for number in range(10):
                if works:
                    partial.write_text("." * number)
                time.sleep(0.06)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with locked(tmp_path / "lock", signs, lambda: ticks.append(time.monotonic())):
        waited = len(ticks) - 1  # the last one says that it has the lock
    thread.join()
    assert waited >= 5 if works else waited <= 1
