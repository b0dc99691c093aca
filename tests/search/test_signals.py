"""Signals that end a search, without any search."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from search.signals import blocked, ended_by, held, listen, signal_handlers, unblock, undisturbed

ENDING = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def before() -> Iterator[None]:
    """Handlers as a program has them that has just started."""
    numbers = (signal.SIGINT, *ENDING)
    kept = {number: signal.getsignal(number) for number in numbers}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_ctrl_c(number) -> None:
    with pytest.raises(KeyboardInterrupt), signal_handlers():
        signal.raise_signal(number)
    assert ended_by() == number
    assert signal.getsignal(number) is signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt), signal_handlers():
        signal.raise_signal(signal.SIGINT)
    assert ended_by() == signal.SIGINT


def test_a_signal_goes_to_who_handles_ctrl_c() -> None:
    heard: list[int] = []
    with signal_handlers():
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGINT]


def test_sigterm_ends_a_search_for_which_ctrl_c_is_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signal_handlers():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_what_is_ignored_or_handled_stays_so() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with signal_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does when it starts
        listen()
        with undisturbed() as came:
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
    assert (came, heard) == ([], [signal.SIGTERM])


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_only_a_second_signal_disturbs(number) -> None:
    done: list[str] = []
    with signal_handlers():
        with undisturbed() as came:
            signal.raise_signal(number)
            done.append("first")
        assert came == [number]
        with undisturbed():
            signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert ended_by() == number
    assert done == ["first"]


def test_what_is_started_meanwhile_outlives_the_signals() -> None:
    """A signal that comes meanwhile is heard afterwards."""
    look = "import signal; print(*sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    found: list[str] = []

    def start() -> None:
        with signal_handlers(), blocked():
            child = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
            signal.raise_signal(signal.SIGTERM)
            found.extend(child.stdout.split())

    with pytest.raises(KeyboardInterrupt):
        start()
    assert {"SIGHUP", "SIGTERM"} <= set(found)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_handler_is_held_against_one_that_a_library_installs() -> None:
    system = ctypes.CDLL(None)

    def start() -> None:
        with signal_handlers(), held():
            system.signal(int(signal.SIGTERM), ctypes.c_void_p(0))  # it would end this process
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert ended_by() == signal.SIGTERM


def test_a_worker_can_be_ended_again() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        unblock()
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
