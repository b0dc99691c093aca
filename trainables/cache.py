"""The cache folder, which holds everything that is computed once per machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def cache_dir() -> Path:
    """Return the user's cache folder: ``$PARETOFUSE_CACHE``, else ``paretofuse`` in the XDG cache folder."""
    explicit = os.environ.get("PARETOFUSE_CACHE")
    if explicit:
        return Path(explicit).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser().resolve() / "paretofuse"


def build_once(target: Path, build: Callable[[Path], None]) -> bool:
    """Create ``target`` by calling ``build``, unless it exists. A partial target is never visible.

    If several processes ask for the same target at the same time, one builds it and the others wait.

    Args:
        target: The file or folder to create.
        build: Called with a temporary path beside ``target``; must create a file or folder there.

    Returns:
        Whether ``build`` ran.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return False
        scratch = target.parent / f".{target.name}.partial"
        # A leftover folder belongs to a killed process, because the lock keeps running processes out.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            build(scratch / target.name)
            os.replace(scratch / target.name, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return True
