"""Tar archives: which members they have and where, without unpacking them."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables.data.readers.jsonl import loads
from trainables.data.readers.media import is_hidden, media_kind
from trainables.data.readers.opening import advice_on, what_it_is
from trainables.errors import UserError

#: Ends of names of members that are texts, and of those that are labels.
TEXTS, LABELS = ("txt", "text", "caption"), ("cls",)
_READ = {*TEXTS, *LABELS, "json"}

_TAR = "a tar archive"  # as ``what_it_is`` says it
_BLOCK = 512  # bytes of an archive's blocks


@dataclass(frozen=True)
class Archive:
    """The members of an archive, by sample. A sample's members share the name up to the first dot.

    What follows that dot is a member's *end*, such as ``jpg`` or ``left.png``, in lower case.

    Attributes:
        path: The archive's path, relative to the dataset's folder.
        keys: The number of each sample by its name, from 0 in the order of their first members.
        places: First byte and size of pictures and sounds, by end and sample.
        values: Texts, labels and JSON objects, by end and sample.
        others: The ends of the members that are none of those.
    """

    path: str
    keys: dict[str, int] = field(default_factory=dict)
    places: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)
    values: dict[str, dict[int, Any]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def ends(self, sample: int | None = None) -> set[str]:
        """Return the ends of the members of a sample, or of all."""
        every = (*self.places.items(), *self.values.items())
        return {end for end, found in every if sample is None or sample in found}

    def samples(self, end: str) -> set[int]:
        """Return the samples that have a member with an end."""
        return {*self.places.get(end, ()), *self.values.get(end, ())}


@dataclass(frozen=True)
class _Member:
    """A member of an archive.

    Attributes:
        info: Its header.
        key: The sample's name.
        end: What follows that, without the dot and in lower case.
        content: What is in it, if it is read at once.
    """

    info: tarfile.TarInfo
    key: str
    end: str
    content: bytes = b""

    @property
    def last(self) -> str:
        """The last end of its name."""
        return self.end.rpartition(".")[2]


def read_archive(name: str, folder: Path, file: Path) -> Archive:
    """Return the members of an archive.

    Args:
        name: The dataset's name in error messages.
        folder: The dataset's folder.
        file: The archive.

    Raises:
        UserError: If it is compressed, cut or damaged, or a member is there twice or cannot be read.
    """
    archive = Archive(file.relative_to(folder).as_posix())
    where = f"dataset '{name}': {archive.path}"
    try:
        for member in _members(where, file):
            _add(where, archive, member)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror})") from error
    if not archive.keys:
        raise UserError(f"{where} has no pictures, sounds, texts (.txt), labels (.cls) or JSON objects")
    return archive


def _members(where: str, file: Path) -> Iterator[_Member]:
    """Yield the members that are files, with the content of those that are read at once."""
    last, end = "at its start", 0
    found = what_it_is(file)
    try:
        with tarfile.open(file, "r:") as archive:
            for info in archive:
                last = f"after its member {info.name}"
                end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
                member = _parsed(info)
                if info.isdir() or any(map(is_hidden, posixpath.normpath(info.name).split("/"))):
                    continue
                if not info.isreg() or info.issparse():
                    raise UserError(f"{where}: {info.name} is a link or no plain file; pack the files")
                content = archive.extractfile(info) if member.last in _READ else None
                yield replace(member, content=content.read()) if content else member
    except (tarfile.TarError, ValueError) as error:
        if not end and found not in (None, _TAR):
            advice = advice_on(found)
            raise UserError(f"{where} is {found}; expected {_TAR} without compression{advice}") from error
        raise UserError(f"{where} is cut or damaged {last} ({error})") from error
    # tarfile takes a damaged header for the end, which is marked by blocks of zeros
    with file.open("rb") as raw:
        raw.seek(end)
        if raw.read(_BLOCK) != bytes(_BLOCK):
            raise UserError(f"{where} is cut or damaged {last}: neither a member nor the end follows")


def _parsed(info: tarfile.TarInfo) -> _Member:
    """Return a member without its content."""
    folder, name = posixpath.split(posixpath.normpath(info.name))
    stem, _, end = name.partition(".")
    return _Member(info, posixpath.join(folder, stem), end.lower())


def _add(where: str, archive: Archive, member: _Member) -> None:
    """Add a member to the archive's samples."""
    into: dict[str, dict[int, Any]]
    value: Any
    if media_kind(member.info.name):
        into, value = archive.places, (member.info.offset_data, member.info.size)
    elif member.last in _READ:
        into, value = archive.values, _value(f"{where}: {member.info.name}", member)
    else:
        archive.others.add(member.end)
        return
    sample = archive.keys.setdefault(member.key, len(archive.keys))
    if sample in into.setdefault(member.end, {}):
        raise UserError(f"{where}: {member.info.name} is there twice")
    into[member.end][sample] = value


def _value(where: str, member: _Member) -> Any:
    """Return the content of a text, of a label, or of a JSON object."""
    try:
        text = member.content.decode()
        if member.last in TEXTS:
            return text
        if member.last in LABELS:
            return text.strip() or None
        value = loads(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no text in UTF-8") from error
    except ValueError as error:
        raise UserError(f"{where} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is a JSON {type(value).__name__}; expected an object: {{…}}")
    return value
