"""Files that are either whole or not there, whenever the process is killed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from trainables.disk import move_synced
from trainables.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, or replace one, in one step; only its owner can read it.

    Args:
        path: The file.
        content: Its new content; text is encoded as UTF-8.

    Raises:
        UserError: If a folder has the file's name.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder, and a file must be written there; remove it or move it away")
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        move_synced(Path(scratch), path)
    except BaseException:
        os.unlink(scratch)
        raise


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none, or if it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
