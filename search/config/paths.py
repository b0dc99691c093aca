"""Paths in settings, which are kept absolute: a search may be resumed from another folder.

What does not exist stays as it was written, so that the message that refuses it shows what the user wrote.
"""

from __future__ import annotations

import os

from search.records.place import absolute


def absolute_file(path: str) -> str:
    """Return the absolute path of a file; one that does not exist stays as it is."""
    return absolute(path) if os.path.exists(path) else path


def absolute_files(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the absolute paths of files; those that do not exist stay as they are."""
    return tuple(map(absolute_file, paths))


def absolute_dataset(name: str) -> str:
    """Return a dataset's address with an absolute path; other names stay as they are."""
    from trainables.data import address_of

    return address_of(name)


def absolute_encoder(name: str) -> str:
    """Return the absolute path of an encoder's folder; other names stay as they are."""
    from trainables.towers.bag_of_words import PREFIX
    from trainables.towers.bundled import BUNDLED

    prefix = PREFIX if name.startswith(PREFIX) else ""
    folder = name.removeprefix(prefix)
    return name if folder in BUNDLED or not os.path.isdir(folder) else prefix + absolute(folder)


def absolute_encoders(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts such as ``audio=FOLDER`` with the absolute paths of the encoders' folders."""
    parts = (text.partition("=") for text in texts)
    return tuple(f"{modality}{equals}{absolute_encoder(name)}" for modality, equals, name in parts)
