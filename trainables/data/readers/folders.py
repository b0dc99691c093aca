"""Folders of pictures or sounds: their folders are splits and classes, and a table may stand beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from trainables.data.columns import LABEL, columns_said
from trainables.data.readers.base import ALL, Found, Reader, register_reader
from trainables.data.readers.beside import Listed, folders_of, read_metadata
from trainables.data.readers.listing import Content, content_of, walk
from trainables.data.readers.media import media_kind
from trainables.data.readers.naming import split_named
from trainables.data.readers.tables import TablePart
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: Columns of metadata beside which folders are classes. Any other column may have the labels.
_TEXTS = {"text", "texts", "caption", "captions", "title", "transcription"}

_NAMED = 3  # files or folders that a message names


class MediaFolder(Reader):
    """A folder with files of one kind.

    Its folders ``train``, ``validation`` and ``test`` are the splits, and the folders that hold files are
    their classes. A file ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet`` with a column
    ``file_name`` adds columns.
    """

    #: The kind of the files, which is the name of their column.
    kind: ClassVar[str]

    rank = 3  # tables may lie in folders with pictures

    def recognises(self, path: Path) -> bool:
        """Return whether a folder has files of this kind; one with both kinds is of pictures."""
        if not path.is_dir():
            return False
        kinds: set[str | None] = set()
        for _, _, files in walk(path):
            kinds.update(map(media_kind, files))
            if "image" in kinds:
                break
        return self.kind in kinds and (self.kind == "image" or "image" not in kinds)

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return a row for each file, or for each row of the metadata."""
        if not path.is_dir():
            raise UserError(f"dataset '{name}': is no folder")
        content = content_of(name, path, self.kind)
        if not content.files:
            raise UserError(f"dataset '{name}': {path} has no files of the kind {self.kind}")
        listed, notes, untyped = self._listed(name, path, content, settings)
        splits, left_out = _by_split(name, listed)
        columns = set().union(*(each.table.column_names for each in listed)) - {self.kind}
        if columns <= _TEXTS and "paretofuse.label" not in columns_said(settings.columns):
            splits, labels_are = _labeled(name, splits, strictly=not content.metadata)
            notes += labels_are
        parts = {
            split: [TablePart(each.name, each.table, each.words) for each in of_split]
            for split, of_split in splits.items()
        }
        return Found(parts, path, notes=(*notes, *left_out), untyped=untyped)

    def _listed(
        self, name: str, path: Path, content: Content, settings: ReadingSettings
    ) -> tuple[list[Listed], list[str], bool]:
        """Return the rows, what the user should know about them, and whether all cells are texts."""
        if content.metadata:
            listed, named, notes, untyped = [], set[str](), list[str](), False
            for file in content.metadata:
                rows, files, remarks, texts = read_metadata(name, path, file, self.kind, settings)
                listed += rows
                named |= files
                notes += remarks
                untyped = untyped or texts
            if unlisted := [file for file in content.files if file not in named]:
                _check_covered(name, unlisted, content.metadata)
                notes.append(
                    f"left out: {len(unlisted):,} files without a row in {_some(content.metadata)} "
                    f"({_some(unlisted)})"
                )
            return listed, notes, untyped
        table = pa.table({self.kind: pa.array(content.files, pa.string())})
        notes = []
        if content.others:
            counts = ", ".join(f"{count:,} {end}" for end, count in content.others.most_common(_NAMED))
            notes.append(f"left out: files of other kinds ({counts})")
        if content.empty:
            notes.append(f"nothing of the kind {self.kind} in {_some(content.empty)}")
        return [Listed(path.name, table, [*map(folders_of, content.files)])], notes, False


@register_reader
class ImageFolder(MediaFolder):
    """A folder of pictures."""

    name = "imagefolder"
    description = "pictures in folders of splits or classes, also with metadata.csv or another table"
    kind = "image"


@register_reader
class AudioFolder(MediaFolder):
    """A folder of sounds."""

    name = "audiofolder"
    description = "sounds in folders of splits or classes, also with metadata.csv or another table"
    kind = "audio"


def _check_covered(name: str, files: Sequence[str], metadata: Sequence[str]) -> None:
    """Refuse files of a split for which there are no metadata, while others have some."""
    covered = {folders_of(each) for each in metadata}
    for file in files:
        above = [folders_of(file)[:depth] for depth in range(len(folders_of(file)) + 1)]
        if any(map(split_named, folders_of(file))) and not covered.intersection(above):
            raise UserError(
                f"dataset '{name}': there is {metadata[0]}, but no metadata for {file}; add them, or move "
                "the file out of the folder"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _shared(chains: Collection[tuple[str, ...]]) -> list[str]:
    """Return the outermost folders that hold all files."""
    pairs = zip(min(chains), max(chains), strict=False)
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]


def _by_split(name: str, listed: Sequence[Listed]) -> tuple[dict[str, list[Listed]], list[str]]:
    """Return rows by split, without the splits' folders, and what the user should know.

    Folders are those of splits if one of them is called ``train``. Else a table may say the splits.
    """
    found: dict[str, list[Listed]] = defaultdict(list)
    chains = [folders for each in listed for folders in each.folders]
    # Folders that hold all files are passed over, such as that of an unpacked archive
    common = len([*takewhile(lambda folder: not split_named(folder), _shared(chains))])
    chains = [folders[common:] for folders in chains]
    outer = {folders[0]: split_named(folders[0]) for folders in chains if folders}
    splits = [split for split in outer.values() if split]
    said = any(each.split != ALL for each in listed)
    if "train" not in splits or said:
        if splits and len(splits) == len(outer) and not said:
            raise UserError(f"dataset '{name}': has the folders {_some([*outer])}, and none called train")
        for each in listed:
            found[each.split].append(each)
        return found, []
    if len({*splits}) < len(splits):
        raise UserError(f"dataset '{name}': two of its folders ({_some([*outer])}) are of one split")
    left_out = 0
    for each in listed:
        of_row = np.array([outer.get((*folders, "")[common]) or "" for folders in each.folders])
        left_out += int((of_row == "").sum())
        for split in {*of_row.tolist()} - {""}:
            rows = each.take(np.flatnonzero(of_row == split))
            found[split].append(replace(rows, folders=[folders[common + 1 :] for folders in rows.folders]))
    return found, [f"left out: {left_out:,} files in no folder of a split"] if left_out else []


def _labeled(
    name: str, splits: dict[str, list[Listed]], *, strictly: bool
) -> tuple[dict[str, list[Listed]], list[str]]:
    """Return rows whose labels are the names of the folders that hold the files, if there are several.

    A test split whose files are all in one folder, which is none of the others', has no labels.

    Args:
        name: The dataset's name in error messages.
        splits: The rows by split.
        strictly: Whether to refuse folders that could be understood in two ways; else they are no labels.
    """
    of_split = {split: {each for rows in listed for each in rows.folders} for split, listed in splits.items()}
    chains = set().union(*(chains for split, chains in of_split.items() if split != "test"))
    tested = of_split.get("test", set())
    hidden = len(tested) == 1 and not tested & chains
    if not hidden:
        chains |= tested
    common = len(_shared(chains))
    classes = {folders[common:] for folders in chains}
    if len(classes) < 2:
        return splits, []
    if any(len(chain) != 1 for chain in classes):
        if not strictly:
            return splits, []
        shown = _some(sorted("/".join(chain) or "no folder" for chain in classes))
        raise UserError(
            f"dataset '{name}': which folders are the classes? There are files in {shown}; put all files of "
            "a class into one folder, call folders of splits train, validation and test, or write "
            "metadata.csv with the columns file_name and label"
        )
    notes = [f"labels are the names of the folders, {_some(sorted(chain[0] for chain in classes))}"]
    found: dict[str, list[Listed]] = defaultdict(list)
    for split, listed in splits.items():
        if hidden and split == "test":
            notes.append("test has no labels, as it has no folders of classes")
            found[split] = listed
            continue
        for each in listed:
            labels = pa.array([folders[common] for folders in each.folders], pa.string())
            found[split].append(replace(each, table=each.table.append_column(LABEL, labels)))
    return found, notes
