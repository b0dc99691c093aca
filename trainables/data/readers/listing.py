"""What is in a folder of pictures or sounds, and in the folders in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainables.data.readers.media import is_hidden, is_metadata, media_kind
from trainables.errors import UserError


@dataclass(frozen=True)
class Content:
    """What is in a folder and the folders in it. Paths are relative to it.

    Attributes:
        files: The files of the wanted kind.
        metadata: The tables about them.
        others: How many other files there are, by the end of their names.
        empty: The folders in which there is nothing of the wanted kind.
    """

    files: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)


def walk(folder: Path) -> Iterator[tuple[PurePosixPath, list[str], list[str]]]:
    """Yield the relative path of a folder and of each one in it, with the names of its folders and files.

    Files that systems leave behind are left out. Links are followed, but not to a folder that holds them.

    Raises:
        OSError: If a folder cannot be read.
    """

    def refuse(error: OSError) -> None:  # by default, folders that cannot be read are passed over
        raise error

    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        above = {real, *map(str, Path(real).parents)}
        paths = {name: os.path.join(here, name) for name in folders if not is_hidden(name)}
        folders[:] = sorted(
            name
            for name, path in paths.items()
            if not os.path.islink(path) or os.path.realpath(path) not in above
        )
        relative = PurePosixPath(Path(here).relative_to(folder).as_posix())
        yield relative, folders, sorted(file for file in files if not is_hidden(file))


def content_of(name: str, folder: Path, kind: str) -> Content:
    """Return what is in a folder and the folders in it.

    Args:
        name: The dataset's name in error messages.
        folder: The folder.
        kind: The wanted kind of files.

    Raises:
        UserError: If the name of a file is no text.
    """
    content = Content()
    for below, folders, files in walk(folder):
        before = len(content.files)
        for file in files:
            path = str(below / file)
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"dataset '{name}': the name of {path} is no UTF-8; rename it") from error
            if media_kind(file) == kind:
                content.files.append(path)
            elif is_metadata(file):
                content.metadata.append(path)
            else:
                content.others[PurePosixPath(file).suffix.lower() or "without ending"] += 1
        if not folders and len(content.files) == before:
            content.empty.append(str(below))
    return content
