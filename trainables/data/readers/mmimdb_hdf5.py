"""The HDF5 file of MM-IMDB: posters as pixels, and extracted features of posters and plots."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from trainables.data.readers.hdf5 import open_hdf5
from trainables.data.readers.published import BadRow, split_of, texts_of
from trainables.errors import UserError

#: The mean color of ImageNet as Caffe's networks take it: blue, green, red.
_CAFFE = np.array([103.939, 116.779, 123.68], dtype=np.float32)
_AT_ONCE = 64  # films read at a time: their pixels take half a MB each
#: The name of each column in the file, and its type here.
_KEYS = {"label": "genres", "image": "images", "features": "features", "vgg_features": "vgg_features"}
_TYPES = {
    "image": pa.binary(),
    "features": pa.list_(pa.float32()),
    "vgg_features": pa.list_(pa.float32()),
    "label": pa.list_(pa.string()),
}
#: The shape of each dataset of the file, and its kinds of numbers as numpy's letters.
_EXPECTED = {
    "images": ("(N, 3, H, W)", "iu"),
    "features": ("(N, D)", "fiu"),
    "vgg_features": ("(N, D)", "fiu"),
    "genres": ("(N, C)", "iub"),
}

#: A program that reads a file's attributes and the first entry of each dataset.
_LOOK = """
import sys, h5py
def look(name, each):
    dict(each.attrs)
    if getattr(each, "shape", None):
        each[:1]
with h5py.File(sys.argv[1], "r") as file:
    dict(file.attrs)
    file.visititems(look)
"""


@dataclass(frozen=True)
class FilmsPart:
    """The films of a split.

    Attributes:
        dataset: The dataset's name in error messages.
        path: The file.
        first: The number of the first film.
        end: The number behind that of the last film.
        genres: The genres, in the order of the columns of ``genres``.
        caffe: Whether pixels are blue, green and red less their means, as Caffe's networks take them.
        columns: The columns that the file has.
    """

    dataset: str
    path: Path
    first: int
    end: int
    genres: tuple[str, ...]
    caffe: bool
    columns: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return pa.schema({column: _TYPES[column] for column in self.columns})

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the films' values."""
        digest = hashlib.sha256(json.dumps([self.genres, self.caffe]).encode())
        for column in self.columns:
            for stored in self._stored(column, _AT_ONCE):
                digest.update(stored.tobytes())
        return digest.digest()

    def count(self) -> int:
        """Return the number of films."""
        return self.end - self.first

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the films in order, in batches of at most ``rows`` films.

        Raises:
            UserError: If the file is damaged.
        """
        for values in zip(*(self._stored(column, min(rows, _AT_ONCE)) for column in columns), strict=True):
            arrays = [self._array(column, stored) for column, stored in zip(columns, values, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, columns)

    def word(self, row: int) -> str:
        """Return the number of a film in the file."""
        return f"{self.name} film {self.first + row}"

    def _stored(self, column: str, rows: int) -> Iterator[np.ndarray]:
        """Yield a column's values as they are stored."""
        with open_hdf5(self.dataset, self.path) as file:
            for start in range(self.first, self.end, rows):
                yield file[_KEYS[column]][start : min(start + rows, self.end)]

    def _array(self, column: str, stored: np.ndarray) -> pa.Array:
        if column == "image":
            values: list[Any] = [_encoded(pixels, self.caffe) for pixels in stored]
        elif column == "label":
            values = [[self.genres[genre] for genre in row.nonzero()[0]] for row in stored]
        else:  # a plot of which no word has a vector has the mean of nothing
            values = [row if np.isfinite(row).all() else None for row in stored]
        return pa.array(values, _TYPES[column])


def read_hdf5(
    name: str, path: Path, genres: Sequence[str], sizes: Mapping[str, int]
) -> tuple[dict[str, FilmsPart], list[str]]:
    """Return the films of each split, and the genres in the order of their columns.

    Args:
        name: The dataset's name in error messages.
        path: The file.
        genres: The genres, if the file does not name them.
        sizes: Number of films of each split, if the file does not say it.

    Raises:
        UserError: If something is missing or has another shape than expected.
    """
    where = f"dataset '{name}': {path.name}"
    # HDF5's library crashes on some damaged files. It shall not be this process
    looked = subprocess.run([sys.executable, "-c", _LOOK, str(path)], capture_output=True, check=False)
    if looked.returncode < 0:
        raise UserError(f"{where} is damaged")
    with open_hdf5(name, path) as file:
        there = {key: file[key] for key in _KEYS.values() if hasattr(file.get(key), "shape")}
        for key in ("images", "features", "genres"):
            if key not in there:
                raise UserError(f"{where} has no '{key}'; it has {', '.join(file)}")
        for key, stored in there.items():
            shape, kinds = _EXPECTED[key]
            fits = stored.ndim == shape.count(",") + 1 and stored.shape[:1] == there["genres"].shape[:1]
            if not fits or stored.dtype.kind not in kinds or (key == "images" and stored.shape[1] != 3):
                found = f"{stored.dtype} of the shape {stored.shape}"
                raise UserError(
                    f"{where}: '{key}' is {found}; expected {'numbers' if 'f' in kinds else 'whole numbers'} "
                    f"of the shape {shape}"
                )
        if not np.isin(file["genres"][...], (0, 1)).all():
            raise UserError(f"{where}: 'genres' has other values than 0 and 1")
        genres = _names(name, path, file["genres"].attrs.get("target_names"), genres)
        if len(genres) != file["genres"].shape[1]:
            raise UserError(
                f"{where}: 'genres' has {file['genres'].shape[1]} columns for {len(genres)} genres"
            )
        columns = tuple(column for column, key in _KEYS.items() if key in there)
        caffe = bool((file["images"][:_AT_ONCE] < 0).any())  # as black is there
        bounds = _bounds(name, path, file, len(file["genres"]), sizes)
    names = tuple(genres)
    parts = {each: FilmsPart(name, path, *ends, names, caffe, columns) for each, ends in bounds.items()}
    return parts, list(genres)


def _names(name: str, path: Path, stated: Any, default: Sequence[str]) -> Sequence[str]:
    """Return the names of the genres from the attribute that has them in JSON."""
    if stated is None:
        return default
    try:
        return texts_of({"target_names": json.loads(stated)}, "target_names")
    except (BadRow, TypeError, ValueError) as error:
        raise UserError(f"dataset '{name}': {path.name}: 'target_names' is no JSON list of genres") from error


def _bounds(
    name: str, path: Path, file: Any, count: int, sizes: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return the first film of each split and the one behind the last, as Fuel's attribute has them."""
    where = f"dataset '{name}': {path.name}"
    stated = file.attrs.get("split")
    if stated is None and count == sum(sizes.values()):
        ends = np.cumsum([0, *sizes.values()]).tolist()
        return dict(zip(sizes, pairwise(ends), strict=True))
    if stated is None:
        raise UserError(f"{where} has {count:,} films and no attribute 'split' that says which is in which")
    try:
        rows = [(row["split"], row["source"], int(row["start"]), int(row["stop"])) for row in stated]
        found = {
            split_of(name, path.name, split.decode()): (start, stop)
            for split, source, start, stop in rows
            if source == b"genres"
        }
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{where}: the attribute 'split' is none of Fuel's") from error
    ends = sorted(found.values())
    if [start for start, _ in ends] != [0, *(stop for _, stop in ends[:-1])] or ends[-1][1] != count:
        raise UserError(f"{where}: the splits {found} are not those of {count:,} films")
    return found


def _encoded(pixels: np.ndarray, caffe: bool) -> bytes:
    """Return an image file of pixels (3, H, W)."""
    values = pixels.transpose(1, 2, 0)
    if caffe:
        values = np.rint(values + _CAFFE)[..., ::-1]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values.clip(0, 255).astype(np.uint8))).save(file, "PPM")
    return file.getvalue()
