"""The signals that end a search: Ctrl-C, and those of a scheduler, a container or a terminal that closes."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

#: Signals that end a search as Ctrl-C does.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: Signals whose handlers are put back. Ray Tune (2.60) and Ray replace some and do not restore them. With Ray
#: Tune's handler of SIGINT, the first Ctrl-C after a search would do nothing.
_SIGNALS = (signal.SIGINT, *_ENDING, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))
#: Seconds between two looks after a handler.
_HOLD = 0.005


class _Asked:
    """What has asked the search to end, and the handlers that listen for it."""

    number: int | None = None
    handlers: ClassVar[dict[int, Any]] = {}


def ended_by() -> int:
    """Return the signal that ended the latest search, SIGINT if it was Ctrl-C."""
    return _Asked.number or signal.SIGINT


@contextmanager
def signal_handlers() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs in the block as Ctrl-C does; restore all handlers at its end."""
    # Only the main thread may install handlers, so other threads have nothing to restore. None stands for a
    # handler that was not installed by Python and cannot be restored.
    _Asked.number = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[Any, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    outer = _Asked.handlers
    # A program's own handlers stay, and so does what is ignored: nohup ignores SIGHUP.
    _Asked.handlers = {n: _end if before[n] is signal.SIG_DFL else before[n] for n in _ENDING}
    listen()
    try:
        yield
    finally:
        _Asked.handlers = outer
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def listen() -> None:
    """Install the handlers of SIGTERM and SIGHUP, which end a search; Ray replaces them when it starts.

    The handlers are installed even if Python knows of no others: Ray's core replaces them behind its back.
    """
    if threading.current_thread() is threading.main_thread():
        for number, handler in _Asked.handlers.items():
            if handler is not None:
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does at this moment: Ray Tune has a handler of its own, which ends its trials."""
    _Asked.number = number
    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        interrupt(signal.SIGINT, frame)
    else:  # a shell ignores SIGINT for what it starts in the background
        raise KeyboardInterrupt


@contextmanager
def undisturbed() -> Iterator[list[int]]:
    """Put off Ctrl-C, SIGTERM and SIGHUP until the block ends; a second one raises ``KeyboardInterrupt``.

    Yields:
        The signal that came, if one did. The block's owner decides what to do about it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def put_off(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            _Asked.number = number
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    before: dict[Any, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    replaced = {number: handler for number, handler in before.items() if callable(handler)}
    for number in replaced:
        signal.signal(number, put_off)
    try:
        yield came
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Keep the handler of SIGTERM in its place, whatever a library installs behind Python's back.

    Ray's core (2.60) installs one that prints a stack and aborts, as soon as it has started, and only some
    time later does its start return.
    """
    system = ctypes.CDLL(None)
    action = ctypes.create_string_buffer(1024)  # larger than any system's ``struct sigaction``
    system.sigaction(int(signal.SIGTERM), None, action)
    ended = threading.Event()

    def put_back() -> None:
        while not ended.wait(_HOLD):
            system.sigaction(int(signal.SIGTERM), action, None)

    thread = threading.Thread(target=put_back, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        listen()


@contextmanager
def blocked() -> Iterator[None]:
    """Start processes that neither SIGTERM nor SIGHUP ends; what comes meanwhile is handled afterwards.

    A terminal that closes and some schedulers send signals to all processes of a search. The search needs its
    Ray to end in order, and ends Ray itself. Processes inherit what is blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        listen()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Let SIGTERM end this process, and those that it starts: ``multiprocessing`` relies on it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
