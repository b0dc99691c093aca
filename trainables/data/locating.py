"""Where the files are that a dataset names."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trainables.data.columns import names_files
from trainables.data.files import ADDRESS, find_file, first_of, place_of, shown
from trainables.data.plain import shared_type
from trainables.data.readers import Part
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.tasks.labels import is_list, is_text

_READ = 512  # rows whose paths are read at a time
_SAMPLE = 32  # rows of each part whose files are looked for
_FOLDERS = 200  # folders in which they are looked for
_NAMED = 4  # folders that a message names

#: What a text has between the names of two files.
_BETWEEN = r"\w\s*[|;,]\s*\S"


def file_columns(parts: Sequence[Part], files: Collection[str]) -> list[str]:
    """Return the columns of files whose cells have to be read: those with paths, or of types that differ."""
    types = {column: {part.schema.field(column).type for part in parts} for column in sorted(files)}
    return [
        column
        for column, kinds in types.items()
        if any(map(names_files, kinds)) or shared_type(kinds) is None
    ]


def located(
    name: str, parts: Sequence[Part], columns: Sequence[str], folder: Path
) -> tuple[dict[str, Path], list[str]]:
    """Return the folder to which each column's paths are relative, and what the user should know.

    It is the dataset's folder; or the one folder in it that has the files, such as ``images``; or the folder
    that holds the dataset's folder. It is the same for all parts.

    Args:
        name: The dataset's name in error messages.
        parts: Its parts.
        columns: The columns that name files.
        folder: The dataset's folder.

    Raises:
        UserError: If no file of a column is found, or if they may be in several folders.
    """
    folders: dict[str, Path] = {}
    notes: list[str] = []
    for column in columns:
        folders[column] = _located(name, parts, column, folder)
        if folders[column] != folder:
            notes.append(f"files of column '{column}' are in {os.path.relpath(folders[column], folder)}/")
        several = sum(_rows_with_several(part, column, folders[column]) for part in parts)
        if several:
            rows_have = "row names" if several == 1 else "rows name"
            notes.append(f"{several:,} {rows_have} several files in column '{column}'; the first is taken")
    return folders, notes


def _located(name: str, parts: Sequence[Part], column: str, folder: Path) -> Path:
    """Return the folder to which a column's paths are relative; see ``located``."""
    where = f"dataset '{name}': column '{column}'"
    advice = f"write paths with their folder, relative to {folder}"
    of_part: dict[Path, str] = {}
    missed: list[str] = []
    for part in parts:
        paths = _paths(part, column, folder)
        having = _having(paths, folder)
        if len(having) > 1 or (having and having[0] != folder and having[0].name.casefold() in SPLITS):
            names = ", ".join(each.name for each in having[:_NAMED])
            raise UserError(
                f"{where} names '{shown(paths[0])}' in {part.name}, which is in {names}; {advice}"
            )
        if having:
            of_part.setdefault(having[0], part.name)
        else:
            missed += paths
    if len(of_part) > 1:
        (first, part_of_first), (second, part_of_second) = list(of_part.items())[:2]
        raise UserError(
            f"{where}: the files of {part_of_first} are in {first}, those of {part_of_second} in {second}; "
            f"{advice}"
        )
    if missed and not of_part:
        if ADDRESS.match(missed[0]):
            what = "the address of a file; fetch the files, and write their paths"
            raise UserError(f"{where} names '{shown(missed[0])}', {what}")
        raise UserError(
            f"{where} names '{shown(missed[0])}'; none of the first files is in {folder}, nor in a folder in "
            "it; write paths relative to that folder"
        )
    return next(iter(of_part), folder)


def _paths(part: Part, column: str, folder: Path) -> list[str]:
    """Return the paths in the first few rows of a part."""
    cells = (cell for batch in part.batches([column], _SAMPLE) for cell in batch[column].to_pylist())
    places = [place_of(first_of(cell, folder)) for cell in islice(cells, _SAMPLE)]
    return [place[0] for place in places if place is not None]


def _having(paths: Sequence[str], folder: Path) -> list[Path]:
    """Return the folders to which some paths may be relative."""

    def has(place: Path) -> bool:
        return any(find_file(place, path) for path in paths)

    if has(folder):
        return [folder]
    inside = [below for below in sorted(folder.iterdir()) if below.is_dir()][:_FOLDERS]
    having = [below for below in inside if has(below)]
    above = folder.absolute().parent
    return having or ([above] if has(above) else [])


def _rows_with_several(part: Part, column: str, folder: Path) -> int:
    """Return how many rows of a part have several files in a column, of which the first is taken."""
    kind: pa.DataType = part.schema.field(column).type
    if is_list(kind):
        lengths = (pc.list_value_length(batch[column]) for batch in part.batches([column], _READ))
        return sum(pc.sum(pc.greater(each, 1)).as_py() or 0 for each in lengths)
    if not is_text(kind):
        return 0
    count = 0
    for batch in part.batches([column], _READ):
        written = batch[column].filter(pc.match_substring_regex(batch[column], _BETWEEN))
        count += sum(first_of(cell, folder) != cell for cell in written.to_pylist())
    return count
