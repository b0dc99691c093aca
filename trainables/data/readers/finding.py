"""Which reader reads what the user has named."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from trainables.data.readers.base import ALL, READERS, Found, Reader
from trainables.data.readers.naming import ending_of, split_named, without_ending
from trainables.data.readers.opening import advice_on, what_it_is
from trainables.data.splits import SPLITS
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
    if not is_there(name, settings):
        raise UserError(f"dataset '{name}': no such file or folder")
    try:
        reader = _recognised(name, path) if wanted is None else READERS[wanted]
        found = reader.read(name, path, settings)
    except OSError as error:
        raise UserError(
            f"dataset '{name}': {error.filename or path} cannot be read ({error.strerror})"
        ) from error
    # The first part tells the columns, and that of a test split may lack the labels
    parts = {split: found.parts[split] for split in (*SPLITS, ALL) if split in found.parts}
    return replace(found, parts=parts, format=reader.name, notes=(*found.notes, *_not_read(path, parts)))


def _recognised(name: str, path: Path) -> Reader:
    """Return the only reader that recognises a path.

    Raises:
        UserError: If none does, or several.
    """
    fitting = readers_of(path)
    if len(fitting) == 1:
        return fitting[0]
    where = f"dataset '{name}'"
    known = ", ".join(reader.name for reader in fitting or READERS.values())
    if fitting:
        raise UserError(f"{where} is of several formats; say which: --format NAME, one of {known}")
    if path.is_file() and (advice := advice_on(what := what_it_is(path))):
        raise UserError(f"{where} is {what}{advice}")
    raise UserError(f"{where}: {_what(path)}; --format says which format it is: {known}")


def _not_read(path: Path, parts: Collection[str]) -> list[str]:
    """Return a note on the files of other splits that lie beside a file that has the name of one."""
    split = split_named(without_ending(path.name))
    if split is None or [*parts] != [ALL] or not path.is_file():
        return []
    others = sorted(
        each.name
        for each in path.absolute().parent.iterdir()
        if ending_of(each.name) == ending_of(path.name)
        and split_named(without_ending(each.name)) not in (None, split)
    )
    return [f"not read: {', '.join(others)}; name the folder to read all splits"] if others else []


def is_there(address: str, settings: ReadingSettings) -> bool:
    """Return whether a path exists that a user has written; names that are no paths count as existing.

    Args:
        address: A path, or ``FORMAT:PATH``.
        settings: What the user says about reading.
    """
    named, written = split_address(address)
    wanted = named or settings.format
    if wanted is not None and not READERS[wanted].of_paths:
        return True
    return os.path.exists(written)  # False for a name that no file can have, too


def readers_of(path: Path) -> list[Reader]:
    """Return the readers that recognise what is at an existing path; only one does if all is well."""
    for _, of_rank in groupby(sorted(READERS.values(), key=_rank), key=_rank):
        if found := [reader for reader in of_rank if reader.recognises(path)]:
            return found
    return []


def _rank(reader: Reader) -> int:
    return reader.rank


def _what(path: Path) -> str:
    """Say what is at a path."""
    if not path.is_dir():
        what = what_it_is(path)
        return "the file is of no known format" + (f", it is {what}" if what else "")
    inside = sorted(path.iterdir())
    shown = ", ".join(each.name for each in inside[:4]) + (
        f" and {len(inside) - 4} more" if len(inside) > 4 else ""
    )
    tables = [each for each in inside if each.is_file() and any(r.recognises(each) for r in READERS.values())]
    advice = f"; name a file in it, such as {tables[0]}" if tables else ""
    return f"a folder with {shown} is of no known format{advice}" if inside else "the folder is empty"
