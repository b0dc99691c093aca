"""How this program was started, for advice that can be pasted into a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def program() -> str:
    """Return the command that started this program: ``paretofuse``, ``python search.py`` or similar."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == "search.py":
        return f"python {os.path.relpath(started)}"
    if started.name == "__main__.py" and started.parent.name == "search":
        return "python -m search"
    return "paretofuse"
