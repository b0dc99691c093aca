"""How this program was started, for advice that can be pasted into a terminal."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from search.confidential import without_secrets


def program() -> str:
    """Return the command that started this program: ``paretofuse``, ``python search.py`` or similar."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == "search.py":
        return f"python {os.path.relpath(started)}"
    if started.name == "__main__.py" and started.parent.name == "search":
        return "python -m search"
    return "paretofuse"


def command_line() -> str:
    """Return the command line of this process as a user types it; passwords in addresses are hidden."""
    started = Path(sys.argv[0] if sys.argv else "")
    known = program()
    if known == "paretofuse" and started.name not in ("", known):  # a script of the user's
        known = f"python {shlex.quote(os.path.relpath(started))}"
    return without_secrets(" ".join([known, *map(shlex.quote, sys.argv[1:])]))
