"""What libraries warn of while they decode, kept with the content that it is about instead of printed."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LIBRARY = "PIL"

_of_thread = threading.local()


@contextmanager
def listening() -> Iterator[None]:
    """Let ``heard`` hear what is warned of in its thread. What is warned of elsewhere is shown as ever."""
    logger = logging.getLogger(_LIBRARY)
    ear = _Ear(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=rf"{_LIBRARY}\.")
        shown = warnings.showwarning

        def show(message: Warning | str, *rest: Any, **named: Any) -> None:
            if not _note(str(message)):
                shown(message, *rest, **named)

        warnings.showwarning = show
        logger.addHandler(ear)
        try:
            yield
        finally:
            logger.removeHandler(ear)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what is warned of in this thread."""
    _of_thread.lines = []
    try:
        yield _of_thread.lines
    finally:
        _of_thread.lines = None


class _Ear(logging.Handler):
    """Takes the lines that a library logs. As there is a handler, nothing is printed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        _note(record.getMessage())


def _note(line: str) -> bool:
    """Keep a line if this thread listens; return whether it does."""
    lines: list[str] | None = getattr(_of_thread, "lines", None)
    if lines is None:
        return False
    lines.append(" ".join(line.split()))
    return True
