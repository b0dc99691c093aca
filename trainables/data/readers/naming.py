"""Which split a file is of, and whether all shards are there, by the files' names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.readers.base import ALL
from trainables.data.readers.media import is_metadata
from trainables.errors import UserError

#: What splits are called, in lower case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLITS = {word: split for split, words in SPLIT_NAMES.items() for word in words}

#: A name without its ending: a word, the number of a shard, how many there are, and what hubs (a hash) and
#: Spark (an id and the compression) add.
_STEM = re.compile(
    r"(.*?)[-_.]?(\d+)?(?:[-_]of[-_](\d+))?"
    r"(?:-[0-9a-f]{16}|-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-c\d+)?)?(?:\.(?:snappy|gz|zstd|lz4))?",
    re.IGNORECASE,
)

#: What the name of a text file ends in after its own ending if gzip has compressed it.
GZIP = ".gz"

_LISTED = 6  # files that a message lists


@dataclass(frozen=True)
class _File:
    path: Path
    word: str
    number: int | None
    count: int | None


def split_named(word: str) -> str | None:
    """Return the split that a word means.

    Example:
        >>> split_named("Dev"), split_named("old")
        ('validation', None)
    """
    return _SPLITS.get(word.strip().casefold())


def or_gzipped(endings: Collection[str]) -> tuple[str, ...]:
    """Return endings, and the same of files that gzip has compressed."""
    return (*endings, *(ending + GZIP for ending in endings))


def ending_of(name: str) -> str:
    """Return the ending of a file's name in lower case, with the dot; that of ``.gz`` has two parts.

    Example:
        >>> ending_of("Train.CSV"), ending_of("train.csv.gz"), ending_of("train")
        ('.csv', '.csv.gz', '')
    """
    stem, ending = os.path.splitext(name)
    before = os.path.splitext(stem)[1] if ending.lower() == GZIP else ""
    return (before + ending).lower()


def without_ending(name: str) -> str:
    """Return a file's name without what ``ending_of`` returns.

    Example:
        >>> without_ending("train.csv.gz")
        'train'
    """
    return name[: len(name) - len(ending_of(name))]


def has_files(folder: Path, endings: Collection[str]) -> bool:
    """Return whether a folder has a file with such an ending."""
    return bool(_files(folder, endings))


def has_split_files(folder: Path, endings: Collection[str]) -> bool:
    """Return whether a folder has files of a split with such an ending, or a folder of a split has."""
    return folder.is_dir() and any(
        split_named(file.word) for file in (*_files(folder, endings), *_below(folder, endings))
    )


def split_files(name: str, folder: Path, endings: Collection[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split, or of ``ALL``, in the order of their numbers.

    They are ``train.parquet``, or shards such as ``train-00000-of-00002.parquet``, or all files in a folder
    ``train``. If no name is that of a split, the files of one name are those of ``ALL``.

    Args:
        name: The dataset's name in error messages.
        folder: The folder.
        endings: The endings of the files' names, in lower case, with the dot.

    Raises:
        UserError: If shards are missing, rows would be read twice, or names can be understood in two ways.
    """
    where = f"dataset '{name}': {folder}"
    files = _files(folder, endings)
    for file in files:
        if split_named(file.word) is None and split_named(re.split(r"[-_. ]", file.word)[0]):
            raise UserError(
                f"{where}: {file.path.name} begins like a split's file and is none; rename or remove it"
            )
    for path in _folders(folder, endings):
        raise UserError(f"{where}: {path.name} is a folder; expected a file")
    below = _below(folder, endings)
    named = [file for file in files if split_named(file.word)]
    if named and below:
        raise UserError(
            f"{where} has {named[0].path.name} and the folder {below[0].path.parent.name}; remove one of them"
        )
    files = files if named else below or files
    if not files:
        plain = [ending for ending in endings if not ending.endswith(GZIP)]
        raise UserError(f"{where} has no file that ends in {' or '.join(plain)}")
    words = {file.word for file in files if split_named(file.word)}
    if not words:
        words = {file.word for file in files}
        if len(words) > 1:
            raise UserError(
                f"{where} has {_listed([file.path.name for file in files])}; name one file, or call them "
                "train, validation and test"
            )
    found: dict[str, tuple[Path, ...]] = {}
    for word in sorted(words):
        split = split_named(word) or ALL
        own = [file for file in files if file.word == word]
        if split in found:
            raise UserError(
                f"{where} has {found[split][0].name} and {own[0].path.name}, both of the {split} split; "
                "remove one"
            )
        found[split] = _in_order(where, own)
    _check_first(where, files, words)
    return {split: found[split] for split in (*SPLIT_NAMES, ALL) if split in found}


def unread(folder: Path, endings: Collection[str], files: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """Return a sentence on the files of a folder that are of no split; nothing if there are none.

    Args:
        folder: The folder.
        endings: The endings of the files' names.
        files: What ``split_files`` returns.
    """
    read = {path for paths in files.values() for path in paths}
    others = [file.path.name for file in _files(folder, endings) if file.path not in read]
    return (f"of no split and not read: {_listed(others)}",) if others else ()


def _files(folder: Path, endings: Collection[str]) -> list[_File]:
    """Return the files of a folder with such an ending; hidden ones are not meant."""
    names = (name for name in os.listdir(folder) if ending_of(name) in endings)
    return [_parsed(path) for path in map(folder.joinpath, sorted(names)) if _is_meant(path)]


def _folders(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the folders that are called as shards are; ``train.parquet`` alone may be a folder of them."""
    paths = (folder / name for name in sorted(os.listdir(folder)))
    return [
        path
        for path in paths
        if ending_of(path.name) in endings
        and path.is_dir()
        and split_named(_parsed(path).word)
        and not split_named(without_ending(path.name))
    ]


def _is_meant(path: Path) -> bool:
    """Return whether a file is neither hidden nor about other files."""
    return path.is_file() and not path.name.startswith((".", "_")) and not is_metadata(path.name)


def _below(folder: Path, endings: Collection[str]) -> list[_File]:
    """Return the files in the folders that have the names of splits, as files of these names.

    Spark calls such a folder ``train.parquet``.
    """
    words = {name: _without(name, endings).casefold() for name in sorted(os.listdir(folder))}
    return [
        _File(file.path, word, file.number, file.count)
        for name, word in words.items()
        if split_named(word) and (folder / name).is_dir()
        for file in _files(folder / name, endings)
    ]


def _without(name: str, endings: Collection[str]) -> str:
    """Return a name without its ending, if it is one of some."""
    return without_ending(name) if ending_of(name) in endings else name


def _parsed(path: Path) -> _File:
    match = _STEM.fullmatch(without_ending(path.name))
    assert match is not None, "it matches any text"
    word, number, count = match.groups()
    return _File(path, word.casefold(), *(int(n) if n else None for n in (number, count)))


def _in_order(where: str, files: Sequence[_File]) -> tuple[Path, ...]:
    """Return the shards of one split in their order.

    Raises:
        UserError: If one is missing, or rows would be read twice.
    """
    names = [file.path.name for file in files]
    numbers = sorted(file.number for file in files if file.number is not None)
    if len(files) > 1 and (len(numbers) < len(files) or len({*numbers}) < len(numbers)):
        raise UserError(
            f"{where} has {_listed(names)}: rows would be read twice; remove what does not belong"
        )
    counts = {file.count for file in files}
    if len(counts) > 1:
        raise UserError(f"{where} has {_listed(names)}: shards of different numbers of files; remove some")
    if numbers:
        first = min(numbers[0], 1)
        count = counts.pop() or numbers[-1] + 1 - first
        if numbers != list(range(first, first + count)):
            missing = sorted({*range(first, first + count)} - {*numbers})
            lacking = _listed([str(number) for number in missing]) or "fewer"
            raise UserError(
                f"{where} has {_listed(names)}: {len(numbers)} of {first + count - first} shards; missing: "
                f"number {lacking}"
            )
    return tuple(file.path for file in sorted(files, key=lambda file: file.number or 0))


def _check_first(where: str, files: Sequence[_File], words: Collection[str]) -> None:
    """Refuse splits whose shards are numbered from 1 where those of another one are numbered from 0."""
    first: dict[str, int] = {}
    for file in files:
        if file.word in words and file.number is not None:
            first[file.word] = min(file.number, first.get(file.word, file.number))
    later = [word for word, number in first.items() if number > min(first.values())]
    if later:
        raise UserError(
            f"{where}: the shards of {_listed(later)} begin with number 1 and others with number 0; "
            f"missing: number 0 of {_listed(later)}"
        )


def _listed(names: Sequence[str]) -> str:
    """Return the first few of some names."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
