"""Where the cache is."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.disk import writing
from trainables.errors import UserError

#: What to do if the cache folder cannot be used.
ADVICE = "set PARETOFUSE_CACHE to another folder"


def cache_dir() -> Path:
    """Return the user's cache folder: ``$PARETOFUSE_CACHE``, else ``paretofuse`` in the XDG cache folder.

    Raises:
        UserError: If there is something else than a folder at that place.
    """
    explicit = os.environ.get("PARETOFUSE_CACHE")
    if explicit:
        folder = Path(explicit).expanduser().resolve()
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base).expanduser().resolve() / "paretofuse"
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"the cache {folder} is not a folder; {ADVICE}")
    return folder


def make_folder(folder: Path) -> None:
    """Create a folder with its parents. If the cache folder is new, nobody but its user may look into it.

    Raises:
        UserError: If it cannot be created.
    """
    top = cache_dir()
    with writing(folder, ADVICE):
        if top == folder or top in folder.parents:
            top.parent.mkdir(parents=True, exist_ok=True)
            top.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
