"""Lines for the user that are no errors, from code that may run in a worker."""

from __future__ import annotations

import sys

_told: dict[str, None] = {}
_pending: list[str] = []


def tell(line: str) -> None:
    """Print a line on standard error, once per process.

    Nobody reads the standard error of a worker. Whoever runs trials in workers passes ``pending`` on.
    """
    if line not in _told:
        _told[line] = None
        _pending.append(line)
        print(line, file=sys.stderr, flush=True)


def pending() -> list[str]:
    """Return the lines that were told since the last call."""
    lines, _pending[:] = list(_pending), []
    return lines
