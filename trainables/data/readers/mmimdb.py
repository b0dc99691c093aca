"""MM-IMDB (Arevalo et al., Gated Multimodal Units, 2017): posters and plots of films, and their genres."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.data.readers.base import Found, Part, Reader, register_reader
from trainables.data.readers.mmimdb_hdf5 import read_hdf5
from trainables.data.readers.published import (
    IMAGE_AND_TEXT,
    BadRow,
    LeftOut,
    first_of,
    parsed_object,
    path_of,
    read_lines,
    read_names,
    read_splits,
    sizes_note,
    split_files,
    table_part,
    text_of,
    texts_of,
)
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: The genres, from the most frequent one to the rarest.
GENRES = (
    "Drama",
    "Comedy",
    "Romance",
    "Thriller",
    "Crime",
    "Action",
    "Adventure",
    "Horror",
    "Documentary",
    "Mystery",
    "Sci-Fi",
    "Fantasy",
    "Family",
    "Biography",
    "War",
    "History",
    "Music",
    "Animation",
    "Musical",
    "Western",
    "Sport",
    "Short",
    "Film-Noir",
)
#: Films of the published split.
SIZES = {"train": 15_552, "validation": 2_608, "test": 7_799}
#: The file of the published features.
HDF5 = "multimodal_imdb.hdf5"

_SCHEMA = pa.schema({"text": pa.string(), "image": pa.string(), "label": pa.list_(pa.string())})
_DIGITS = 7  # of an id in the name of a file

#: A film: what the user calls it, and its cells.
Film = tuple[str, dict[str, Any]]


@register_reader
class MMIMDb(Reader):
    """A folder with lists of films in JSONL, with ``split.json``, or with ``multimodal_imdb.hdf5``."""

    name = "mmimdb"
    description = "MM-IMDB as it was published, as mmbt and MoPE prepare it, or its HDF5 file"

    rank = -1  # its folders also have tables or pictures

    def recognises(self, path: Path) -> bool:
        """Return whether there is the HDF5 file, or ``split.json`` beside the folders of descriptions."""
        if path.name == HDF5 or (path / HDF5).is_file():
            return True
        described = (path / "dataset").is_dir() or ((path / "labels").is_dir() and (path / "images").is_dir())
        return described and (path / "split.json").is_file()

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the films of the JSONL lists, else of ``split.json``, else of the HDF5 file."""
        if path.is_file() and path.suffix in (".hdf5", ".h5"):
            return _hdf5(name, path)
        if not path.is_dir():
            raise UserError(f"dataset '{name}': {path} is a file; name its folder, or {HDF5}")
        damaged = LeftOut()
        if lists := split_files(name, path, "{}.jsonl"):
            films = {split: list(read_lines(name, file, _listed, damaged)) for split, file in lists.items()}
            files = {split: file.name for split, file in lists.items()}
        elif first_of(name, path, "train.jsonl", "split.json", HDF5) == HDF5:
            return _hdf5(name, path / HDF5)
        else:
            films = _published(name, path, damaged)
            files = dict.fromkeys(films, "split.json")
        damaged.refuse(name, settings)
        listed = path / "labels.txt"
        genres = read_names(name, listed) if listed.is_file() else GENRES
        left_out = LeftOut()
        kept = _kept(films, genres, left_out)
        parts = {split: [table_part(files[split], rows, _SCHEMA)] for split, rows in kept.items()}
        sizes = {split: len(rows) for split, rows in films.items()}
        notes = (*left_out.notes(), *damaged.notes(), *sizes_note(sizes, SIZES))
        return _found(parts, path, genres, IMAGE_AND_TEXT, notes)


def _hdf5(name: str, path: Path) -> Found:
    parts, genres = read_hdf5(name, path, GENRES, SIZES)
    modalities = {
        "text": {"column": "features", "kind": "features"},
        "image": {"column": "image", "kind": "image"},
    }
    sizes = {split: part.count() for split, part in parts.items()}
    notes = (
        f"{path.name} has no texts: the modality text is the mean of each plot's word vectors",
        *sizes_note(sizes, SIZES),
    )
    each = {split: [part] for split, part in parts.items()}
    return _found(each, path.parent, genres, json.dumps(modalities), notes)


def _found(
    parts: Mapping[str, Sequence[Part]],
    folder: Path,
    genres: Sequence[str],
    modalities: str,
    notes: tuple[str, ...],
) -> Found:
    metadata = {
        "paretofuse.modalities": modalities,
        "paretofuse.label": "label",
        "paretofuse.task": "multilabel",
        "paretofuse.classes": json.dumps(list(genres)),
    }
    return Found(parts, folder, metadata, notes)


def _listed(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the film in a line. mmbt's preparation writes ``image``, and its loader reads ``img``."""
    return _film(text_of(line, "text"), texts_of(line, "label"), path_of(line, "img", "image"))


def _film(text: str, genres: list[str], image: str | None) -> dict[str, Any]:
    return {"text": text, "image": image, "label": [genre.strip() for genre in genres]}


def _kept(films: Mapping[str, list[Film]], genres: Sequence[str], left_out: LeftOut) -> dict[str, list[Film]]:
    """Return the films that the papers use.

    mmbt leaves out the films of the genre News and those without a plot, and of the other splits those of a
    genre that no training film has; MoPE also Reality-TV and Talk-Show. None of these genres is among the 23.
    """
    seen: set[str] = set()
    kept: dict[str, list[Film]] = {}
    for split, rows in films.items():
        kept[split] = []
        for word, film in rows:
            others = sorted({*film["label"]} - {*genres})
            unseen = sorted({*film["label"]} - seen) if split != "train" else []
            if others:
                left_out.add(f"of the genre {others[0]}, which is none of the {len(genres)}", word)
            elif not film["text"].strip():
                left_out.add("without a plot", word)
            elif unseen:
                left_out.add(f"of the genre {unseen[0]}, which no film of train has", word)
            else:
                kept[split].append((word, film))
                seen.update(film["label"] if split == "train" else ())
    return kept


def _published(name: str, folder: Path, damaged: LeftOut) -> dict[str, list[Film]]:
    """Return the films of ``split.json``, which have a file each for the description and the poster."""
    described = first_of(name, folder, "dataset", "labels")
    shown = "dataset" if described == "dataset" else first_of(name, folder, "images")
    descriptions = _Files(folder, described, (".json",))
    posters = _Files(folder, shown, (".jpeg", ".jpg", ".png"))
    films: dict[str, list[Film]] = {}
    for split, ids in read_splits(name, folder / "split.json").items():
        films[split] = []
        for each in ids:
            film = str(each).zfill(_DIGITS)
            description = descriptions.find(film)
            if description is None:
                damaged.add(f"without a file in {described}", f"{split} film {film}")
                continue
            image = posters.find(film) or f"{shown}/{film}.jpeg"
            with damaged.reading(description):
                films[split].append((f"film {film}", _film(*_plot_and_genres(folder / description), image)))
    return films


class _Files:
    """The files of a folder by the id of their film, with or without zeros in front."""

    def __init__(self, folder: Path, below: str, suffixes: tuple[str, ...]) -> None:
        names = sorted(each.name for each in (folder / below).glob("[!.]*") if each.suffix in suffixes)
        self._exact = {name.partition(".")[0]: f"{below}/{name}" for name in names}
        self._numbers = {film.lstrip("0"): path for film, path in self._exact.items()}

    def find(self, film: str) -> str | None:
        """Return the path of a film's file; None if there is none."""
        return self._exact.get(film) or self._numbers.get(film.lstrip("0"))


def _plot_and_genres(path: Path) -> tuple[str, list[str]]:
    """Return the longest plot of a description, and the genres."""
    try:
        described = parsed_object(path.read_bytes())
    except OSError as error:
        raise BadRow(f"that cannot be read ({error.strerror})") from error
    plots = texts_of(described, "plot") if "plot" in described else []
    return max(plots, key=len, default=""), texts_of(described, "genres")
