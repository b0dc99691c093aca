"""Which reader reads what the user has named."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.data.readers.base import READERS, Found
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings


def split_address(address: str) -> tuple[str | None, str]:
    """Return the format and the path of ``FORMAT:PATH``; None and all of it without a known format."""
    name, colon, path = address.partition(":")
    return (name, path) if colon and path and name in READERS else (None, address)


def read_path(name: str, settings: ReadingSettings) -> Found:
    """Read the dataset at a path.

    Args:
        name: What the user wrote: a path, or ``FORMAT:PATH``.
        settings: What the user says about reading.

    Raises:
        UserError: If nothing is there, if no reader or several recognise it, or if it cannot be read.
    """
    named, written = split_address(name)
    wanted = named or settings.format
    path = Path(written)
    if not os.path.exists(written):  # False for a name that no file can have, too
        raise UserError(f"dataset '{name}': no such file or folder")
    if wanted is not None:
        return READERS[wanted].read(name, path, settings)
    fitting = [reader for reader in READERS.values() if reader.recognises(path)]
    if len(fitting) == 1:
        return fitting[0].read(name, path, settings)
    known = ", ".join(reader.name for reader in fitting or READERS.values())
    if fitting:
        raise UserError(f"dataset '{name}': is of several formats; say which: --format {known}")
    raise UserError(f"dataset '{name}': {_what(path)} is of no known format; --format says which: {known}")


def _what(path: Path) -> str:
    """Say what is at a path."""
    if not path.is_dir():
        return "the file"
    there = sorted(entry.name for entry in path.iterdir())
    shown = ", ".join(there[:4]) + (f" and {len(there) - 4} more" if len(there) > 4 else "")
    return f"a folder with {shown}" if there else "an empty folder"
