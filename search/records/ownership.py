"""Whose a search is: resuming one runs what its store names, so the store must be the user's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainables.errors import UserError

#: Endings of the files that SQLite reads beside a store. Whoever can write one of them can write the store.
_BESIDE = ("", "-wal", "-shm", "-journal")


def require_own(store: Path) -> None:
    """Refuse a store that somebody else wrote, or that others may write; Windows is not checked.

    A store names plugins, which are run, and checkpoints. The superuser is no exception: running the code of
    other users is what must not happen to it.

    Args:
        store: The store's file.

    Raises:
        UserError: If a file of the store has another owner, or if its group or everybody may write it.
    """
    if os.name != "posix":
        return
    for ending in _BESIDE:
        path = store.with_name(store.name + ending)
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if status.st_uid != os.geteuid():
            raise UserError(
                f"{path}: belongs to {_name(status.st_uid)}, and resuming a search runs the plugins that it "
                f"names; if you trust it, copy {store.parent} and resume the copy; --warm-start only reads"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UserError(
                f"{path}: others may write it, and resuming a search runs the plugins that it names; "
                f"if nobody has changed it, run: chmod go-w {path}"
            )


def _name(user: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"
