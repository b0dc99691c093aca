"""Repositories of the Hugging Face hub as they are downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from trainables.data.readers.base import ALL, READERS, Found, Part, Reader, register_reader
from trainables.data.readers.features_of import with_names
from trainables.data.readers.media import media_kind
from trainables.data.readers.naming import split_named
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: Files of a folder of which any may be a picture or a sound.
_LOOKED_AT = 100

#: A file of several: what stands before its number, how many there are, and the end.
_SHARD = re.compile(r"(.*-)\d+-of-(\d+)(\D.*)?")

#: What a README says about its repository for programs.
_Card = Mapping[str, Any]

#: The files of a configuration: a folder, or the files of each split by the split's name.
_Files = Path | Mapping[str, Sequence[Path]]


@register_reader
class Hub(Reader):
    """A downloaded repository: its README lists the files, or they are in ``data`` or a folder of their own.

    Only tables are read so. Pictures and sounds in folders are read as they lie.
    """

    name = "hub"
    description = "repository of the Hugging Face hub, as it is downloaded"
    rank = -1  # what the README says goes before the names of files

    def recognises(self, path: Path) -> bool:
        """Return whether a README says something about tables, or they are in folders only."""
        if not path.is_dir():
            return False
        card = _card(path)
        says_more = bool(_stated(card) or _stated_classes(card))
        return (says_more or not _readers(path)) and bool(_configurations(path, card))

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the only configuration, or of the default one."""
        return read_repository(name, path, settings)


def read_repository(
    name: str, path: Path, settings: ReadingSettings, wanted: str | None = None, *, by_name: bool = False
) -> Found:
    """Return the rows of one configuration of a downloaded repository.

    Args:
        name: The dataset's name in error messages.
        path: The repository's folder.
        settings: What the user says about reading.
        wanted: The configuration; None takes the only or the default one.
        by_name: Whether the user names a configuration by its name, and not by its folder.

    Raises:
        UserError: If there is no such configuration, if there are several, or if files are not there.
    """
    card = _card(path)
    configurations = _configurations(path, card)
    if not configurations:
        raise UserError(f"dataset '{name}': no README.md or folder in {path} leads to tables")
    if wanted is None:
        wanted = _default(name, card, configurations, by_name)
    if wanted not in configurations:
        raise UserError(
            f"dataset '{name}': there is no configuration {wanted}; there are {', '.join(configurations)}"
        )
    files = configurations[wanted]
    if isinstance(files, Path):
        found = _reader(name, files).read(name, files, settings)
    else:
        found = _read_files(name, path, files, settings)
    if len(configurations) > 1:
        note = f"of {', '.join(configurations)}, the configuration {wanted} is read"
        found = replace(found, notes=(note, *found.notes))
    stated = _stated_classes(card)
    classes = stated.get(wanted, {}) if len(stated) > 1 else next(iter(stated.values()), {})
    return _with_classes(name, found, classes) if classes else found


def has_tables(path: Path) -> bool:
    """Return whether a downloaded repository has tables that can be read."""
    return bool(_configurations(path, _card(path)))


def _configurations(path: Path, card: _Card) -> dict[str, _Files]:
    """Return the files of each configuration, as the README lists them, or else as they lie."""
    stated = {str(each.get("config_name", "default")): _listed(path, each) for each in _stated(card)}
    found: dict[str, _Files] = {config: files for config, files in stated.items() if files is not None}
    if found:
        return found
    if _readers(path):
        return {"default": path}
    folders = [folder for folder in sorted(path.iterdir()) if _has_no_media(folder) and _is_read(folder)]
    if path / "data" in folders:
        folders = [path / "data"]
    return {folder.name: folder for folder in folders}


def _has_no_media(path: Path) -> bool:
    """Return whether a path is a folder, and not one of perhaps many pictures or sounds."""
    return path.is_dir() and not any(media_kind(name) for name in islice(os.listdir(path), _LOOKED_AT))


def _is_read(path: Path) -> bool:
    """Return whether tables are at a path."""
    return path.exists() and not path.name.startswith(".") and bool(_readers(path))


def _readers(path: Path) -> list[Reader]:
    """Return the readers of tables, and of folders with tables, that recognise a path."""
    others = (reader for reader in READERS.values() if reader.rank <= 0 and reader.name != Hub.name)
    fitting = [reader for reader in others if reader.recognises(path)]
    return [reader for reader in fitting if reader.rank == min(each.rank for each in fitting)]


def _stated(card: _Card) -> list[dict[str, Any]]:
    """Return the configurations that the README lists."""
    stated = card.get("configs")
    return [each for each in stated if isinstance(each, dict)] if isinstance(stated, list) else []


def _listed(path: Path, stated: Mapping[str, Any]) -> _Files | None:
    """Return the files of a configuration; None if they are no tables.

    Args:
        path: The repository's folder.
        stated: What the README says: ``data_dir``, a folder, and ``data_files``: a pattern or a list of them,
            such lists by split, or a list of objects with ``split`` and ``path``.
    """
    folder = path / str(stated.get("data_dir") or ".")
    match stated.get("data_files"):
        case None:
            return folder if folder != path and _is_read(folder) else None
        case {**by_split}:
            pairs = [(str(split), patterns) for split, patterns in by_split.items()]
        case [{"path": _}, *_] as each:
            pairs = [(str(one.get("split", ALL)), one.get("path")) for one in each if isinstance(one, dict)]
        case patterns:
            pairs = [(ALL, patterns)]
    found: dict[str, list[Path]] = {}
    for split, patterns in pairs:
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            found.setdefault(split, []).extend(_matching(folder, str(pattern)))
    files = [file for of_split in found.values() for file in of_split]
    return found if all(_is_read(file) or not file.exists() for file in files) else None


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files that a pattern means; the pattern itself, as a path, if there are none."""
    try:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
    except (ValueError, NotImplementedError):  # no pattern within a folder
        files = []
    return files or [folder / pattern]


def _default(name: str, card: _Card, configurations: Mapping[str, _Files], by_name: bool) -> str:
    """Return the configuration that is read if the user names none.

    Raises:
        UserError: If there are several, and none is the default.
    """
    if len(configurations) == 1:
        return next(iter(configurations))
    said = [str(each.get("config_name")) for each in _stated(card) if each.get("default") is True]
    for config in (*said, "default"):
        if config in configurations:
            return config
    first, files = next(iter(configurations.items()))
    if all("=" in config for config in configurations):
        column = first.partition("=")[0]
        raise UserError(
            f"dataset '{name}': is parted into folders such as {first}, so that its files lack the column "
            f"'{column}'; write them with that column, without such folders"
        )
    place = files if isinstance(files, Path) else next(iter(files.values()))[0]
    way = f"name one: {name}/{first}" if by_name else f"name the folder or file of one, such as {place}"
    raise UserError(f"dataset '{name}': has the configurations {', '.join(configurations)}; {way}")


def _reader(name: str, path: Path) -> Reader:
    """Return the reader of a table."""
    readers = _readers(path) if path.exists() else []
    if len(readers) != 1:
        raise UserError(f"dataset '{name}': {path} is not there, or of no one format")
    return readers[0]


def _read_files(
    name: str, path: Path, files: Mapping[str, Sequence[Path]], settings: ReadingSettings
) -> Found:
    """Return the rows of files that a README lists."""
    parts: dict[str, list[Part]] = {}
    read: list[Found] = []
    unused = []
    # What train's files say about columns holds for all
    for word, of_split in sorted(files.items(), key=lambda item: split_named(item[0]) != "train"):
        _check_shards(name, of_split)
        split = ALL if word == ALL else split_named(word)
        if split is None:
            unused.append(word)
            continue
        for file in of_split:
            if not file.is_file():
                raise UserError(
                    f"dataset '{name}': README.md lists {os.path.relpath(file, path)}, and it is not there"
                )
            read.append(_reader(name, file).read(name, file, settings))
            for own in read[-1].parts.values():
                parts.setdefault(split, []).extend(own)
    if not read:
        raise UserError(f"dataset '{name}': none of its splits ({', '.join(unused)}) is called train")
    folders = {found.folder for found in read}
    notes = [note for found in read for note in found.notes]
    notes += [f"not used: the splits {', '.join(unused)}"] if unused else []
    return Found(
        parts,
        folders.pop() if len(folders) == 1 else path,
        read[0].metadata,
        tuple(dict.fromkeys(notes)),
        any(found.untyped for found in read),
    )


def _check_shards(name: str, files: Sequence[Path]) -> None:
    """Refuse files of which the names say that there are more."""
    for file in files:
        if shard := _SHARD.fullmatch(file.name):
            start, count, end = shard[1], shard[2], shard[3]
            for number in range(int(count)):
                other = f"{start}{number:0{len(count)}}-of-{count}{end}"
                if file.with_name(other) not in files:
                    raise UserError(f"dataset '{name}': there is {file}, but no {other}")


def _with_classes(name: str, found: Found, classes: Mapping[str, list[str]]) -> Found:
    """Return rows with names of classes where the README has them and the files do not."""
    columns = {column: {"classes": names} for column, names in classes.items()}
    columns.update(json.loads(found.metadata.get("paretofuse.columns", "{}")))
    parts = {split: [with_names(name, part, classes) for part in own] for split, own in found.parts.items()}
    return replace(found, parts=parts, metadata={**found.metadata, "paretofuse.columns": json.dumps(columns)})


def _stated_classes(card: _Card) -> dict[str, dict[str, list[str]]]:
    """Return the names of classes that the README has, by configuration and column."""
    stated = card.get("dataset_info")
    found: dict[str, dict[str, list[str]]] = {}
    for info in stated if isinstance(stated, list) else [stated]:
        if not isinstance(info, dict) or not isinstance(info.get("features"), list):
            continue
        config = str(info.get("config_name", "default"))
        for feature in info["features"]:
            if names := _class_names(feature):
                found.setdefault(config, {})[str(feature.get("name"))] = names
    return found


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of the classes of a feature, or of the items of its lists; None if it has none."""
    match feature:
        case {"name": _, "dtype": inner} | {"list": inner} | {"sequence": inner}:
            return _class_names(inner)
        case {"class_label": {"names": {**by_number}}}:
            return [str(by_number[number]) for number in sorted(by_number, key=lambda key: int(str(key)))]
        case {"class_label": {"names": [*names]}}:
            return [str(each) for each in names]
    return None


def _card(path: Path) -> _Card:
    """Return what the README says about the dataset for programs; nothing if it cannot be read."""
    file = path / "README.md"
    if not file.is_file():
        return {}
    from huggingface_hub import metadata_load

    try:
        return metadata_load(file) or {}
    except Exception:  # malformed YAML; then the folders tell what there is
        return {}
