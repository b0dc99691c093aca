"""Which columns are modalities and which are labels, by their names, types and contents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from trainables.data.columns import LABEL, Modality, column_named, from_json, modalities_of, names_files
from trainables.data.encoded import encoded_bytes, is_encoded
from trainables.data.kinds import KINDS
from trainables.data.kinds.base import holds_files
from trainables.data.readers import Found, Part
from trainables.errors import UserError
from trainables.tasks.labels import is_list, is_text


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Usual names of columns, in lower case and with _ between words.
_USUAL = {
    "text": _words(
        """text texts caption captions title sentence sentences sentence1 sentence2 sentence_1 sentence_2
        premise hypothesis plot synopsis overview description summary question questions utterance review
        review_text tweet tweet_text transcript transcription post comment body headline prompt content
        alt_text clean_text full_text raw_text text_corrected"""
    ),
    LABEL: _words(
        """label labels class classes class_name class_label category categories target targets genre
        genres gold_label label_name label_text y sentiment emotion tag tags topic topics intent rating
        stars score"""
    ),
}

#: Names of columns of files that are believed whatever the cells are.
_OF_FILES = {
    "image": re.compile(r"(image|img|picture|photo|pic)s?(_?(path|file|file_?name|file_?path|name|bytes))?"),
    "audio": re.compile(r"(audio|sound|wav|wave)s?(_?(path|file|file_?name|file_?path|name|bytes))?"),
}
#: Names of columns of files, if several columns look like files.
_FILES = _words("file files file_name filename file_path filepath path paths")

_ENDINGS = {
    "image": _words("jpg jpeg jpe jfif png gif bmp webp tif tiff avif heic heif ppm pgm pbm jp2 tga ico"),
    "audio": _words("wav mp3 flac ogg oga opus m4a aac aif aiff wma amr"),
}
_OF_NO_TEXT = "|".join(sorted(_ENDINGS["image"] | _ENDINGS["audio"]))
#: The name of a file, of one that has a text or of what no text is.
_FILE_NAME = re.compile(rf"\S+\.(txt|json|xml|html?|csv|pdf|{_OF_NO_TEXT})", re.IGNORECASE)

_BEGINNINGS = {
    "image": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"),
    "audio": (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3"),
}
_RIFF = {b"WEBP": "image", b"WAVE": "audio"}

#: Addresses of files, and names of columns that have such ones of pictures and sounds.
_ADDRESS = re.compile(r"\s*\w+://")
_ABOUT_FILES = re.compile("|".join(_OF_FILES))

#: Texts that are written as lists of texts, as JSON or Python does.
_LIST = re.compile(r"""\s*\[\s*(['"]).*\1\s*\]\s*$""", re.DOTALL)

_SHOWN = 60  # characters of a text that a note shows
_NAMED = 6  # columns that a note names
_SAMPLE = 32  # rows whose cells are looked at
_MOST = 0.9  # share of the cells that must look like files

#: Returns the first few cells of a column that are not missing.
_Sample = Callable[[str], Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """Which columns are what.

    Attributes:
        modalities: Column and kind of each modality.
        label: Name of the label column; ``label`` if there is none.
        notes: What was found by name and type, and what was not, for the user.
    """

    modalities: dict[str, Modality]
    label: str
    notes: tuple[str, ...]


def find_columns(name: str, found: Found, said: Mapping[str, str], labeled: bool) -> Columns:
    """Return the columns that the user names, else those that the dataset names, else those found by name.

    Modalities that the user names stand beside those that the dataset names, and in the place of those with
    the same name or column. Where the dataset names none, those of other kinds are still found.

    A column with the name of a kind is a modality, and the column ``label`` has the labels. Else there must
    be one column with a usual name; columns of files may also be found by their cells.

    Args:
        name: The dataset's name in error messages.
        found: What a reader has found. Parts have plain types.
        said: What the user says, see ``columns_said``.
        labeled: Whether the task needs labels.

    Raises:
        UserError: If a column is not there, or several may be meant. The message lists the candidates.
    """
    parts, metadata = [part for each in found.parts.values() for part in each], found.metadata
    schema = parts[0].schema
    declared = from_json(name, metadata, "paretofuse.modalities") or {}
    by_user = modalities_of(name, schema, from_json(name, said, "paretofuse.modalities") or {})
    claimed = {modality.column for modality in by_user.values()}
    modalities = {
        modality: by_user.get(modality, where)
        for modality, where in modalities_of(name, schema, declared).items()
        if modality in by_user or where.column not in claimed
    } | by_user
    label = said.get("paretofuse.label", metadata.get("paretofuse.label"))
    label = None if label is None or not labeled else column_named(name, schema, label)
    if label is None and labeled and LABEL in schema.names:
        label = LABEL
    guess = _Guess(name, schema, _sampler(parts), metadata, _left_out(found))
    taken = {*(modality.column for modality in modalities.values()), *([label] if label else [])}
    guessed: dict[str, str] = {}
    if not declared:
        kinds = {modality.kind for modality in modalities.values()}
        for kind in KINDS:
            column = None if kind in kinds else guess.modality(kind, taken)
            if kind == "text" and column is not None:
                guess.require_texts(column)
            if column is not None:
                modalities[kind] = Modality(column, kind)
                guessed[kind] = column
                taken.add(column)
            elif kind not in kinds:
                _check_in_all(name, parts, kind)
    if not modalities:
        raise UserError(
            f"dataset '{name}': no column is known as a modality ({', '.join(KINDS)}); its columns: "
            f"{', '.join(schema.names)}; say which: --columns "
            f"text=COLUMN,image=COLUMN,label=COLUMN{guess.left_out}"
        )
    if labeled and label is None:
        label = guessed[LABEL] = guess.label(taken)
    notes = []
    meant = {**{m: where.column for m, where in modalities.items()}, **({LABEL: label} if label else {})}
    others = [column for column in dict.fromkeys(schema.names) if column not in meant.values()]
    if any(kind != column for kind, column in guessed.items()):
        listed = ", ".join(f"{kind}={column}" for kind, column in meant.items())
        notes.append(f"columns: {listed} (found by name and type){_not_used(others)}")
    if not any(modality.kind in _OF_FILES for modality in modalities.values()):
        notes += [
            f"column '{column}' has addresses of files, which are not fetched"
            for column in guess.addresses(others)
        ]
    notes += [
        f"column '{where.column}' has lists such as {cell[:_SHOWN]!r}; each is taken as one text"
        for where in modalities.values()
        if where.kind == "text" and (cell := guess.list_in(where.column))
    ]
    return Columns(modalities, label or LABEL, tuple(notes))


@dataclass(frozen=True)
class _Guess:
    """Finds columns of a table by their names, types and cells."""

    name: str
    schema: pa.Schema
    sample: _Sample
    metadata: Mapping[str, str]
    left_out: str

    def modality(self, kind: str, taken: set[str]) -> str | None:
        """Return the column of a modality; None if there is none."""
        if kind in self.schema.names and kind not in taken:
            return kind
        free = [column for column in dict.fromkeys(self.schema.names) if column not in taken]
        if kind == "text":
            usual = [column for column in free if _usual(column, "text")]
            for column in usual:
                if is_list(self._type(column)) and is_text(self._type(column).value_type):
                    where = f"dataset '{self.name}': column '{column}'"
                    raise UserError(f"{where} has lists of texts; write a row for each text")
            return self._only(kind, [c for c in usual if KINDS["text"].takes(self._type(c))])
        if kind in _OF_FILES:
            return self._only(kind, self._files(kind, free))
        return None

    def require_texts(self, column: str) -> None:
        """Check that a column has no names of files, which would be taken for texts.

        Raises:
            UserError: If most cells are names of files.
        """
        cells = self.sample(column)
        names = [cell for cell in cells if isinstance(cell, str) and _FILE_NAME.fullmatch(cell.strip())]
        if cells and len(names) >= _MOST * len(cells):
            raise UserError(
                f"dataset '{self.name}': column '{column}' has names of files such as '{names[0]}', and no "
                f"texts; write the texts themselves, or say which column has them: --columns text=COLUMN"
            )

    def label(self, taken: set[str]) -> str:
        """Return the column of labels."""
        stated = from_json(self.name, self.metadata, "paretofuse.columns") or {}
        free = [column for column in dict.fromkeys(self.schema.names) if column not in taken]
        named = [c for c in free if "classes" in stated.get(c, {})] or [
            c for c in free if _usual(c, LABEL) and not pa.types.is_struct(self._type(c))
        ]
        column = self._only(LABEL, named)
        if column is None:
            raise UserError(
                f"dataset '{self.name}' has no column 'label', nor one with another usual name; its columns: "
                f"{', '.join(self.schema.names)}; say which it is: --columns label=COLUMN{self.left_out}"
            )
        return column

    def addresses(self, columns: Sequence[str]) -> list[str]:
        """Return those columns whose cells are addresses of pictures or sounds."""
        found = []
        for column in columns:
            cells = [cell for cell in self.sample(column) if isinstance(cell, str)]
            if (
                cells
                and all(map(_ADDRESS.match, cells))
                and (
                    _ABOUT_FILES.match(_word(column))
                    or any(_kind_of(cell.partition("://")[2]) for cell in cells)
                )
            ):
                found.append(column)
        return found

    def list_in(self, column: str) -> str | None:
        """Return a text of a column all of whose texts are written as lists; None if they are not."""
        cells = self.sample(column)
        written = bool(cells) and all(isinstance(cell, str) and _LIST.match(cell) for cell in cells)
        return cells[0] if written else None

    def _files(self, kind: str, free: Sequence[str]) -> list[str]:
        """Return the columns that may have the files of a modality, the likeliest ones only."""
        stated = from_json(self.name, self.metadata, "paretofuse.columns") or {}
        declared = [column for column in free if stated.get(column, {}).get("kind") == kind]
        may = [c for c in free if holds_files(self._type(c)) or names_files(self._type(c))]
        named = [column for column in may if _OF_FILES[kind].fullmatch(_word(column))]
        looking = [column for column in may if column not in named and self._looks_like(kind, column)]
        return declared or named or [c for c in looking if _word(c) in _FILES] or looking

    def _looks_like(self, kind: str, column: str) -> bool:
        cells = self.sample(column)
        alike = sum(_kind_of(cell) == kind for cell in cells)
        return bool(cells) and alike >= _MOST * len(cells)

    def _only(self, what: str, candidates: Sequence[str]) -> str | None:
        """Return the only candidate; None if there is none.

        Raises:
            UserError: If there are several.
        """
        if len(candidates) > 1:
            ways = [_written(what, candidates[0])]
            if what != LABEL:
                ways.append(",".join(_written(f"{_word(c)}:{what}", c) for c in candidates))
            raise UserError(
                f"dataset '{self.name}': {what} may be any of the columns {', '.join(candidates)}; say "
                f"which: {' or '.join(f'--columns {way}' for way in ways)}"
            )
        return candidates[0] if candidates else None

    def _type(self, column: str) -> pa.DataType:
        return self.schema.field(self.schema.names.index(column)).type


def classes_of(name: str, metadata: Mapping[str, str], label: str) -> dict[str, str]:
    """Return the description with the class names that it has for the label column.

    Args:
        name: The dataset's name in error messages.
        metadata: The description. ``paretofuse.columns`` may have ``classes`` by column.
        label: Name of the label column.
    """
    stated = (from_json(name, metadata, "paretofuse.columns") or {}).get(label, {}).get("classes")
    if stated is None or "paretofuse.classes" in metadata:
        return dict(metadata)
    return {**metadata, "paretofuse.classes": json.dumps(stated)}


def _not_used(columns: Sequence[str]) -> str:
    """Return, to end a sentence with, which columns have no meaning."""
    if not columns:
        return ""
    more = [f"{len(columns) - _NAMED:,} more"] if len(columns) > _NAMED else []
    return f"; not used: {', '.join([*columns[:_NAMED], *more])}"


def _left_out(found: Found) -> str:
    """Return, to end a sentence with, what a reader says of columns that it has left out."""
    return "".join(f" ({note})" for note in found.notes if "left out" in note)


def _sampler(parts: Sequence[Part]) -> _Sample:
    """Return the function that reads the first few cells of a column that are not missing."""

    def sample(column: str) -> Sequence[Any]:
        for part in parts:
            if part.schema.names.count(column) != 1:
                continue
            for batch in part.batches([column], _SAMPLE):
                cells = [cell for cell in batch[column].to_pylist() if cell not in (None, "")]
                if cells:
                    return cells
        return ()

    return sample


def _kind_of(cell: Any) -> str | None:
    """Return the kind of the file that a cell names or holds; None if it looks like none."""
    if isinstance(cell, list):
        return _kind_of(cell[0]) if cell else None
    if isinstance(cell, dict):
        return _kind_of(cell.get("bytes") or cell.get("path"))
    if isinstance(cell, str):
        ending = PurePosixPath(cell.strip()).suffix.lower().removeprefix(".")
        named = next((kind for kind, endings in _ENDINGS.items() if ending in endings), None)
        if named is not None and "://" not in cell:
            return named
        if is_encoded(cell):
            try:
                cell = encoded_bytes(cell)
            except ValueError:
                return None
    if not isinstance(cell, bytes):
        return None
    if cell[:4] == b"RIFF":
        return _RIFF.get(cell[8:12])
    return next((kind for kind, starts in _BEGINNINGS.items() if cell.startswith(starts)), None)


def _check_in_all(name: str, parts: Sequence[Part], kind: str) -> None:
    """Check that no part has a column of a modality that the first part lacks.

    Raises:
        UserError: If one has.
    """
    first = {*parts[0].schema.names}
    for part in parts[1:]:
        for column in part.schema.names:
            if column not in first and _is_named_as(kind, column):
                lacks = f"{parts[0].name} has not; its columns: {', '.join(parts[0].schema.names)}"
                raise UserError(f"dataset '{name}': {part.name} has a column '{column}', which {lacks}")


def _is_named_as(kind: str, column: str) -> bool:
    """Return whether a column has a name of a modality."""
    files = _OF_FILES.get(kind)
    return (
        column == kind
        or (kind == "text" and _usual(column, kind))
        or bool(files and files.fullmatch(_word(column)))
    )


def _usual(column: str, kind: str) -> bool:
    return _word(column) in _USUAL[kind]


def _word(column: str) -> str:
    """Return a column's name in lower case, with _ between words: ``Image File`` is ``image_file``."""
    return re.sub(r"[\s\-.]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.strip())).casefold()


def _written(modality: str, column: str) -> str:
    """Return an entry of ``--columns``."""
    return f'"{modality}={column}"' if "," in column else f"{modality}={column}"
