"""Changes that a search makes to the whole process, and undoes when it returns."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import optuna

from trainables.cache import cache_dir

#: Environment variables that libraries read; the user's values win. Ray's workers inherit them.
_DEFAULTS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # The tracker retries by itself, so that a request for a new run is not repeated blindly.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
_CACHE = "PARETOFUSE_CACHE"
#: Variables that Ray sets in the process that starts it.
_SET_BY_RAY = ("PYTHONBREAKPOINT", "RAY_AUTH_MODE", "TUNE_RESULT_BUFFER_LENGTH")

_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "ray.tune": logging.CRITICAL,  # the search itself says which trials failed
    "ray.train": logging.ERROR,
}
#: Loggers whose levels libraries set while a search runs.
_SET_BY_LIBRARIES = ("ray", "transformers")

#: Signals whose handlers Ray Tune (2.60) and Ray replace and do not restore. With Ray Tune's handler of
#: SIGINT, the first Ctrl-C after a search would do nothing.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

#: Seconds that a thread may keep the interpreter while another one waits. After each flush to the disk, the
#: search may wait this long for the thread that writes to MLflow. Python's default is ten times as long.
_SWITCH = 0.0005


@contextmanager
def prepared_process() -> Iterator[None]:
    """Prepare this process for a search, and restore its state at the end.

    Enter it before Ray is started, because Ray's workers get the environment of the process that starts Ray.
    Do not run searches in several threads of one process at once: they would restore each other's state.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment())
        stack.enter_context(_log_levels())
        stack.enter_context(_switch_interval())
        stack.enter_context(_signal_handlers())
        yield


@contextmanager
def _environment() -> Iterator[None]:
    # The path of the cache is absolute, because workers run in other folders.
    wanted = {
        **{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()},
        _CACHE: str(cache_dir()),
    }
    before = {name: os.environ.get(name) for name in (*wanted, *_SET_BY_RAY)}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _log_levels() -> Iterator[None]:
    loggers = {name: logging.getLogger(name) for name in (*_LEVELS, *_SET_BY_LIBRARIES)}
    before = {name: logger.level for name, logger in loggers.items()}
    verbosity = optuna.logging.get_verbosity()
    for name, level in _LEVELS.items():
        loggers[name].setLevel(level)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
        for name, logger in loggers.items():
            logger.setLevel(before[name])


@contextmanager
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _signal_handlers() -> Iterator[None]:
    # Only the main thread may install handlers, so other threads have nothing to restore. None stands for a
    # handler that was not installed by Python and cannot be restored.
    before: dict[Any, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
