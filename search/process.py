"""Changes that a search makes to the whole process, and undoes when it returns."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import optuna

from search.signals import signal_handlers
from trainables.cache import cache_dir

#: Environment variables that libraries read; the user's values win. Ray's workers inherit them.
_DEFAULTS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody unless the user wants it
    # The tracker retries by itself, so that a request for a new run is not repeated blindly.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
_CACHE = "PARETOFUSE_CACHE"
#: Variables that are set in the process that starts Ray, by Ray and for it.
_SET_BY_RAY = ("PYTHONBREAKPOINT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "TUNE_RESULT_BUFFER_LENGTH")

_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "ray.tune": logging.CRITICAL,  # the search itself says which trials failed
    "ray.train": logging.ERROR,
}
#: Loggers whose levels libraries set while a search runs.
_SET_BY_LIBRARIES = ("ray", "transformers")

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
        stack.enter_context(environment(_variables(), *_SET_BY_RAY))
        stack.enter_context(_log_levels())
        stack.enter_context(_switch_interval())
        stack.enter_context(signal_handlers())
        yield


def _variables() -> dict[str, str]:
    # The path of the cache is absolute, because workers run in other folders.
    return {
        **{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()},
        _CACHE: str(cache_dir()),
    }


@contextmanager
def environment(variables: Mapping[str, str], *others: str) -> Iterator[None]:
    """Set environment variables in a block; restore them, and others that the block may set, at its end."""
    before = {name: os.environ.get(name) for name in (*variables, *others)}
    os.environ.update(variables)
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
