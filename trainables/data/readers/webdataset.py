"""WebDataset: tar archives in which the members of a sample share a name, ``000.jpg`` and ``000.txt``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.columns import LABEL, columns_taken
from trainables.data.kinds import KINDS
from trainables.data.readers.archives import LABELS, TEXTS, Archive, read_archive
from trainables.data.readers.base import ALL, Found, Part, Reader, register_reader
from trainables.data.readers.jsonl import MixedError, typed_array
from trainables.data.readers.media import media_kind
from trainables.data.readers.naming import has_split_files, split_files
from trainables.data.readers.tables import TablePart
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

_PLAIN, _COMPRESSED = (".tar",), (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


@register_reader
class WebDataset(Reader):
    """A tar archive, or a folder of them.

    Pictures and sounds are read where they are in the archive. Texts (``.txt``), labels (``.cls``) and the
    fields of JSON objects (``.json``) become columns. A sample that lacks a member lacks its value.
    """

    name = "webdataset"
    description = "WebDataset: tar archives with samples such as 000.jpg, 000.txt, 000.cls and 000.json"

    def recognises(self, path: Path) -> bool:
        """Return whether a file is an archive, or a folder has some, or folders of splits in it."""
        if path.is_dir():
            return any(map(_is_archive, path.iterdir())) or has_split_files(path, _PLAIN)
        return _is_archive(path)

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the samples. The names of the archives, or of their folders, say the splits."""
        if path.is_dir():
            folder, files = path, split_files(name, path, _PLAIN)
        else:
            folder, files = path.parent, {ALL: (path,)}
        if not files:
            raise UserError(
                f"dataset '{name}': {path} has no .tar archives; compressed ones must be unpacked"
            )
        archives = {split: [read_archive(name, folder, file) for file in files[split]] for split in files}
        for of_split in archives.values():
            _check_whole(name, of_split)
        everything = [archive for of_split in archives.values() for archive in of_split]
        _check_names(name, everything)
        table, notes = _table(name, everything, settings)
        parts: dict[str, list[Part]] = {}
        for split, of_split in archives.items():
            for archive in of_split:
                words = [f"{archive.path} sample {key}" for key in archive.keys]
                parts.setdefault(split, []).append(TablePart(archive.path, table[: len(words)], words))
                table = table[len(words) :]
        return Found(parts, folder, notes=notes, untyped=True)


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((*_PLAIN, *_COMPRESSED)) and not path.name.startswith(".")


def _check_whole(name: str, archives: Sequence[Archive]) -> None:
    """Refuse samples that are spread over two archives.

    Different samples may have the same name in different archives. Only these are surely one: the last sample
    of an archive that goes on in the next one, and samples of archives that have no kind of member in common.
    """
    for one, other in pairwise(archives):
        last, first = next(reversed(one.keys)), next(iter(other.keys))
        spread = {last} & {first} if not one.ends(one.keys[last]) & other.ends(0) else set()
        if not one.ends() & other.ends():
            spread |= one.keys.keys() & other.keys.keys()
        if spread:
            raise UserError(
                f"dataset '{name}': sample {min(spread)} is partly in {one.path} and partly in {other.path}; "
                "put all members of a sample into one archive"
            )


def _check_names(name: str, archives: Sequence[Archive]) -> None:
    """Refuse names such as ``1.0_a.jpg`` and ``1.0_b.jpg``, in which a dot is no end of a sample's name."""
    samples = Counter(end for archive in archives for end in archive.ends() for _ in archive.samples(end))
    several = sorted(end for end in samples if "." in end)
    if len(several) > 1 and all(samples[end] == 1 for end in several):
        archive = next(archive for archive in archives if several[0] in archive.ends())
        (sample,) = archive.samples(several[0])
        member = f"{[*archive.keys][sample]}.{several[0]}"
        raise UserError(
            f"dataset '{name}': {archive.path} has the member {member}: what stands before the first dot is "
            "the sample's name, which must not have one itself; pack the files under other names"
        )


def _columns(archives: Sequence[Archive]) -> dict[str, str]:
    """Return the columns by the ends of the members that they hold.

    A picture ``000.png`` is in a column ``image``, and ``000.left.png`` in ``left``. If samples have several
    members for one column, such as ``000.jpg`` and ``000.png``, their columns are called by their ends.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for end in sorted(set().union(*(archive.ends() for archive in archives))):
        stem, _, last = end.rpartition(".")
        if last != "json":
            wanted[stem or _column(last)].append(end)
    columns = {}
    for column, ends in wanted.items():
        alone = all(
            sum(len(archive.samples(end)) for end in ends)
            == len(set().union(*(archive.samples(end) for end in ends)))
            for archive in archives
        )
        columns.update({end: column if alone else end for end in ends})
    return columns


def _column(last: str) -> str:
    """Return the usual column of members with a simple end."""
    return "text" if last in TEXTS else "label" if last in LABELS else str(media_kind(f".{last}"))


def _table(
    name: str, archives: Sequence[Archive], settings: ReadingSettings
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the samples of all archives as a table, and what the user should know.

    Values that samples lack are null. A member has its column for itself: a field of a JSON object that is
    called like it is left out, and so is a field with values of several types, unless it is needed.
    """
    columns, rows = _columns(archives), 0
    values: dict[str, dict[int, Any]] = defaultdict(dict)
    for archive in archives:
        for end, places in archive.places.items():
            for sample, (offset, size) in places.items():
                place = {"path": archive.path, "offset": offset, "size": size}
                values[columns[end]][rows + sample] = place
        for end, contents in archive.values.items():
            for sample, content in contents.items():
                fields = {columns[end]: content} if end in columns else content
                for field, value in fields.items():
                    if end in columns or field not in columns.values():
                        values[field][rows + sample] = value
        rows += len(archive.keys)
    made, notes = {}, []
    for column, found in values.items():
        try:
            made[column] = typed_array([found.get(row) for row in range(rows)])
        except MixedError as error:
            if column in _needed(settings):
                raise UserError(
                    f"dataset '{name}': field '{column}' of JSON objects has {error}; write it as one type"
                ) from None
            notes.append(f"field '{column}' of JSON objects is left out, it has {error}")
    others = sorted(set().union(*(archive.others for archive in archives)))
    if others:
        notes.append(f"not read: members that end in .{', .'.join(others)}")
    return pa.table(made), tuple(notes)


def _needed(settings: ReadingSettings) -> set[str]:
    """Return the columns that are in use whatever else there is."""
    return {LABEL, *KINDS, *columns_taken(settings.columns)}
