"""MSR-VTT: captions and seven sets of features of videos, in the layout of MMT (github.com/gabeur/mmt)."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.hdf5 import open_hdf5
from trainables.data.readers.opening import file_hash
from trainables.data.readers.pickles import as_text, named, read_pickle
from trainables.data.readers.published import read_text, sizes_note
from trainables.data.readers.sequences import sequence_column, sequence_type
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: The sets of features, and the numbers of a vector of each.
EXPERTS = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}

#: Column of the captions, which search.
CAPTION = "caption"

#: The lists of each division into splits, and the published number of videos of each.
_LISTS = {
    "jsfusion": {"train": ("train_list_jsfusion.txt", 9000), "test": ("val_list_jsfusion.txt", 1000)},
    "miech": {"train": ("train_list_miech.txt", 6656), "test": ("test_list_miech.txt", 1000)},
    "full": {
        "train": ("train_list.txt", 6513),
        "validation": ("val_list.txt", 497),
        "test": ("test_list.txt", 2990),
    },
}
_DEFAULT = "jsfusion"
_LISTS_IN = "symlinked-feats"
_VIDEOS_IN = "vid_feat_files/mult_h5"

#: Which of the captions of each test video of ``jsfusion`` counts.
_ONE_CAPTION = "jsfusion_val_caption_idx.pkl"

_MOST_VECTORS = 30  # of a set of features of a video, as in MMT
_ROWS = 64  # of a batch, at most; the vectors of a video take 0.8 MB
_SEED = 0  # of the validation split


@register_reader
class Msrvtt(Reader):
    """A folder with lists of videos and an HDF5 file of each. A row is a video with one of its captions.

    The list of training videos may be given instead of the folder. It says which division into splits is
    taken.
    """

    name = "msrvtt"
    description = (
        f"MSR-VTT: MMT's folder with {_LISTS_IN} and {_VIDEOS_IN}, or a list of training videos in it"
    )

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of all videos that are in the lists."""
        division, folder, lists_in = _division(name, path)
        videos = folder / _VIDEOS_IN
        if not videos.is_dir():
            raise UserError(f"dataset '{name}': has no folder {videos}")
        lists = _LISTS[division]
        ids = {split: _listed(name, lists_in / file) for split, (file, _) in lists.items()}
        counts = {split: len(videos) for split, videos in ids.items()}
        notes = sizes_note(counts, {split: size for split, (_, size) in lists.items()}, "videos")
        for split, others in itertools.combinations(ids, 2):
            if shared := {*ids[split]} & {*ids[others]}:
                raise UserError(f"dataset '{name}': {min(shared)} is in the lists of {split} and {others}")
        if "validation" not in ids:
            ids, note = _with_validation(ids, settings.validation_fraction)
            notes = (f"{division} has no validation split: {note}", *notes)
        chosen = _chosen(name, lists_in / _ONE_CAPTION) if division == "jsfusion" else {}
        parts = {
            split: [VideoPart(name, split, videos, each, chosen if split == "test" else {})]
            for split, each in ids.items()
        }
        for (part,) in parts.values():
            part.check()
        modalities = {
            CAPTION: {"column": CAPTION, "kind": "text"},
            **{expert: {"column": expert, "kind": "features"} for expert in EXPERTS},
        }
        said = {
            "paretofuse.modalities": json.dumps(modalities),
            "paretofuse.task": "retrieval",
            "paretofuse.query": CAPTION,
        }
        return Found(parts, folder, said, notes)


def _division(name: str, path: Path) -> tuple[str, Path, Path]:
    """Return the division into splits, the folder of the dataset, and that of its lists."""
    if path.is_dir():
        for lists_in in (path / _LISTS_IN, path):
            if (lists_in / _LISTS[_DEFAULT]["train"][0]).is_file():
                return _DEFAULT, path, lists_in
        wanted = f"{_LISTS_IN}/{_LISTS[_DEFAULT]['train'][0]}"
        raise UserError(
            f"dataset '{name}': {path} has no {wanted}; for other splits, give the path of their list of "
            "training videos"
        )
    training = {lists["train"][0]: division for division, lists in _LISTS.items()}
    if path.name not in training:
        raise UserError(
            f"dataset '{name}': {path.name} is no list of training videos; those are {', '.join(training)}"
        )
    lists_in = path.parent
    return training[path.name], lists_in.parent if lists_in.name == _LISTS_IN else lists_in, lists_in


def _listed(name: str, path: Path) -> list[str]:
    """Return the names of the videos of a list."""
    if not path.is_file():
        raise UserError(f"dataset '{name}': has no {path}")
    ids = [line.strip() for line in read_text(name, path).splitlines() if line.strip()]
    if not ids:
        raise UserError(f"dataset '{name}': {path} names no video")
    if len({*ids}) < len(ids):
        twice = next(each for number, each in enumerate(ids) if each in ids[:number])
        raise UserError(f"dataset '{name}': {path} names {twice} twice")
    return ids


def _with_validation(ids: Mapping[str, list[str]], fraction: float) -> tuple[dict[str, list[str]], str]:
    """Return the videos of each split, some of the training videos as validation, and a sentence on it."""
    train = ids["train"]
    count = max(1, round(fraction * len(train)))
    kept = {*np.random.default_rng(_SEED).permutation(len(train))[count:].tolist()}
    split = {
        "train": [each for number, each in enumerate(train) if number in kept],
        "validation": [each for number, each in enumerate(train) if number not in kept],
        "test": ids["test"],
    }
    return split, f"{count:,} of the {len(train):,} training videos are it"


def _chosen(name: str, path: Path) -> dict[str, int]:
    """Return the number of the caption that counts, by video."""
    if not path.is_file():
        raise UserError(f"dataset '{name}': has no {path}, which says which caption of a test video counts")
    content = named(read_pickle(name, path))
    try:
        return {video: int(number) for video, number in (content or {}).items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"dataset '{name}': {path} has not a number of a caption by video") from error


@dataclass(frozen=True)
class VideoPart:
    """Videos with their captions, read from their HDF5 files on demand. A row is a caption.

    Attributes:
        dataset: The dataset's name in error messages.
        name: What the user calls it.
        folder: The folder of the files.
        ids: The videos.
        chosen: The number of the only caption that is taken, by video; all are taken if it is empty.
    """

    dataset: str
    name: str
    folder: Path
    ids: Sequence[str]
    chosen: Mapping[str, int]

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        vectors = [pa.field(expert, sequence_type(size)) for expert, size in EXPERTS.items()]
        return pa.schema([pa.field(CAPTION, pa.string()), *vectors, pa.field("video", pa.string())])

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the files and of the captions that are taken."""
        digest = hashlib.sha256(json.dumps([self.ids, *sorted(self.chosen.items())]).encode())
        for video in self.ids:
            digest.update(file_hash(self._path(video)))
        return digest.digest()

    def check(self) -> None:
        """Refuse videos without a file, and those for which it is not known which caption is taken.

        Raises:
            UserError: If there are some.
        """
        if lost := [video for video in self.ids if not os.path.isfile(self._path(video))]:
            raise UserError(
                f"dataset '{self.dataset}': {len(lost):,} of {len(self.ids):,} {self.name} videos have no "
                f"file, the first is {self._path(lost[0])}"
            )
        if self.chosen and (lost := [video for video in self.ids if video not in self.chosen]):
            raise UserError(
                f"dataset '{self.dataset}': {_ONE_CAPTION} lacks {len(lost):,} of {len(self.ids):,} "
                f"{self.name} videos, the first is {lost[0]}"
            )

    def count(self) -> int:
        """Return the number of captions."""
        return len(self._captions)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        experts = [column for column in columns if column in EXPERTS]
        read: dict[str, dict[str, np.ndarray | None]] = {}
        rows = min(rows, _ROWS) if experts else rows
        for start in range(0, self.count(), rows):
            some = self._captions[start : start + rows]
            videos = dict.fromkeys(video for video, _ in some)
            read = {v: read[v] if v in read else self._vectors(v, experts) for v in videos}
            own = {"video": pa.array([v for v, _ in some]), CAPTION: pa.array([text for _, text in some])}
            yield pa.record_batch(
                {
                    column: sequence_column([read[video][column] for video, _ in some], EXPERTS[column])
                    if column in EXPERTS
                    else own[column]
                    for column in columns
                }
            )

    def word(self, row: int) -> str:
        """Return the video and the caption."""
        return "{}: {}".format(*self._captions[row])

    @cached_property
    def _captions(self) -> list[tuple[str, str]]:
        """The video and the text of each row."""
        return [(video, text) for video in self.ids for text in self._texts(video)]

    def _texts(self, video: str) -> list[str]:
        path = self._path(video)
        with open_hdf5(self.dataset, path) as file:
            numbers = sorted(
                int(found[1]) for key in file if (found := re.fullmatch(r"raw_captions\.(\d+)", key))
            )
            if self.chosen:
                wanted = self.chosen[video]
                if wanted not in numbers:
                    raise UserError(f"dataset '{self.dataset}': {path} has no raw_captions.{wanted}")
                numbers = [wanted]
            texts = [_text(file[f"raw_captions.{number}"][()]) for number in numbers]
        if not texts:
            raise UserError(f"dataset '{self.dataset}': {path} has no raw_captions.0")
        return texts

    def _vectors(self, video: str, experts: Sequence[str]) -> dict[str, np.ndarray | None]:
        """Return a video's features; None for those that it lacks."""
        if not experts:
            return {}
        path = self._path(video)
        with open_hdf5(self.dataset, path) as file:
            stored = {e: file[key][()] if (key := f"features.{e}") in file else None for e in experts}
        return {e: None if v is None else self._checked(path, e, np.asarray(v)) for e, v in stored.items()}

    def _checked(self, path: Path, expert: str, vectors: np.ndarray) -> np.ndarray | None:
        """Return vectors of the right shape; None if MMT takes them as missing."""
        number = vectors.dtype.kind in "fiu"
        if not vectors.size or (number and np.isnan(vectors.flat[0])):
            return None
        if not number or vectors.ndim != 2 or vectors.shape[1] != EXPERTS[expert]:
            raise UserError(
                f"dataset '{self.dataset}': {path}: features.{expert} is {vectors.dtype} of shape "
                f"{vectors.shape}; expected vectors of {EXPERTS[expert]} numbers"
            )
        return _some(vectors)

    def _path(self, video: str) -> Path:
        return self.folder.joinpath(*video[:3], f"{video}.h5")


def _text(words: Any) -> str:
    """Return the text of an array of words."""
    return " ".join(as_text(word) for word in np.asarray(words).ravel().tolist())


def _some(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors, or as many as MMT takes, at equal distances from the first to the last."""
    if len(vectors) <= _MOST_VECTORS:
        return vectors
    return vectors[np.linspace(0, len(vectors) - 1, _MOST_VECTORS).round().astype(int)]
