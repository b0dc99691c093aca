"""Paths in settings, which are kept absolute: a search may be resumed from another folder."""

from __future__ import annotations

import os


def absolute(path: str) -> str:
    """Return the absolute path of a file or folder; what cannot be a path stays as it is."""
    return os.path.realpath(path) if path and "\0" not in path else path


def all_absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the absolute paths of files."""
    return tuple(map(absolute, paths))


def absolute_dataset(name: str) -> str:
    """Return the absolute path of a dataset's folder; other names stay as they are."""
    from trainables.data.source import DATASETS

    return name if name in DATASETS or not os.path.isdir(name) else absolute(name)


def absolute_encoder(name: str) -> str:
    """Return the absolute path of an encoder's folder; other names stay as they are."""
    from trainables.towers.bag_of_words import PREFIX
    from trainables.towers.bundled import BUNDLED

    prefix = PREFIX if name.startswith(PREFIX) else ""
    folder = name.removeprefix(prefix)
    return name if folder in BUNDLED or not os.path.isdir(folder) else prefix + absolute(folder)
