"""IEMOCAP: emotions in text, sound and video."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.data.readers.affect import MODALITIES, Split, modalities_said, pickle_of, read_parts
from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.hdf5 import open_hdf5
from trainables.data.readers.opening import file_hash
from trainables.data.readers.pickles import as_text, read_npy
from trainables.data.readers.sequences import sequence_column, sequence_type, without_padding
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: The emotions of MulT's pickle, each of which is there or not.
_EMOTIONS = ("Neutral", "Happy", "Sad", "Angry")

#: Where MMIN's layout has each modality, in the order in which Wander takes them.
_FILES = {"text": "L/bert_large.h5", "audio": "A/comparE.h5", "vision": "V/denseface.h5"}
#: What it calls the splits.
_SPLITS = {"train": "trn", "validation": "val", "test": "tst"}
_FOLD = "1"  # the one that is taken by default
_CLASSES = 4


@register_reader
class Iemocap(Reader):
    """A pickle of MulT, or the folder of MMIN (github.com/AIM3-RUC/MMIN).

    MulT's has for each of four emotions whether it is there: ``labels`` (N, 4, 2). MMIN's has one of four
    classes: ``target/FOLD/trn_label.npy`` (N, 4), and ``trn_int2name.npy`` with the names of utterances, by
    which their vectors are found in HDF5 files.
    """

    name = "iemocap"
    description = "IEMOCAP: a pickle of MulT (iemocap_data.pkl), or MMIN's folder with A, V, L and target"

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the pickle, or of a fold."""
        if path.is_dir() and path.parent.name == "target":
            return _folder(name, path.parent.parent, path.name)
        if path.is_dir() and (path / "target").is_dir():
            return _folder(name, path, _FOLD)
        return _pickle(name, pickle_of(name, path, "target/"))


def _pickle(name: str, path: Path) -> Found:
    parts, notes = read_parts(name, path, lambda split: {"labels": _yes_or_no(split)})
    said = {
        "paretofuse.modalities": modalities_said(MODALITIES),
        "paretofuse.label": "labels",
        "paretofuse.task": "multilabel",
        "paretofuse.classes": json.dumps(_EMOTIONS),
    }
    return Found({split: [part] for split, part in parts.items()}, path.parent, said, tuple(notes))


def _yes_or_no(split: Split) -> pa.Array:
    """Return for each row a list that says 1 or 0 for each emotion."""
    labels = split.array("labels")
    if labels.shape[1:] != (len(_EMOTIONS), 2):
        raise UserError(f"{split.where}: 'labels' has shape {labels.shape}; expected (rows, 4, 2)")
    _require_one_hot(split.where, labels.reshape(-1, 2))
    answers = labels.argmax(axis=2).astype(np.int8)
    return pa.FixedSizeListArray.from_arrays(pa.array(answers.ravel()), len(_EMOTIONS))


def _require_one_hot(where: str, labels: np.ndarray) -> None:
    """Refuse labels (N, C) that do not have a 1 in one place and else 0."""
    if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
        raise UserError(f"{where}: a label has not a 1 in one place and else 0")


def _folder(name: str, folder: Path, fold: str) -> Found:
    files = {modality: folder / path for modality, path in _FILES.items()}
    there = {modality: _utterances(name, path) for modality, path in files.items()}
    sizes = {modality: size for modality, (size, _) in there.items()}
    parts = {}
    for split, short in _SPLITS.items():
        target = folder / "target" / fold
        labels = read_npy(name, target / f"{short}_label.npy")
        keys = [as_text(key) for key in read_npy(name, target / f"{short}_int2name.npy").ravel().tolist()]
        where = f"dataset '{name}': {target / f'{short}_label.npy'}"
        if labels.shape != (len(keys), _CLASSES) or labels.dtype.kind not in "fiub":
            raise UserError(
                f"{where} has shape {labels.shape} and {labels.dtype}, beside {len(keys):,} names of "
                f"utterances; expected a number for each and each of {_CLASSES} classes"
            )
        _require_one_hot(where, labels)
        for modality, (_, known) in there.items():
            if lost := [key for key in keys if key not in known]:
                raise UserError(
                    f"dataset '{name}': {files[modality]} lacks {len(lost):,} of {len(keys):,} utterances of "
                    f"{target.name}/{short}_int2name.npy, the first is {lost[0]}"
                )
        parts[split] = [
            UtterancePart(name, f"target/{fold}/{short}", files, sizes, keys, labels.argmax(axis=1))
        ]
    said = {
        "paretofuse.modalities": modalities_said(MODALITIES),
        "paretofuse.task": "classification",
        "paretofuse.classes": json.dumps([str(number) for number in range(_CLASSES)]),
    }
    folds = sorted(each.name for each in (folder / "target").iterdir() if each.is_dir())
    note = f"fold {fold} of {len(folds)}; {Iemocap.name}:{folder}/target/NUMBER takes another"
    return Found(parts, folder, said, (note,))


def _utterances(name: str, path: Path) -> tuple[int, frozenset[str]]:
    """Return the numbers of a vector, and the names of utterances."""
    with open_hdf5(name, path) as file:
        keys = frozenset(file)
        shape = tuple(getattr(file[min(keys)], "shape", ())) if keys else ()
        if len(shape) != 2:
            raise UserError(f"dataset '{name}': {path} has no sequences of vectors by utterance")
        return shape[-1], keys


@dataclass(frozen=True)
class UtterancePart:
    """Utterances, whose vectors are read from HDF5 files on demand.

    Attributes:
        dataset: The dataset's name in error messages.
        name: What the user calls it.
        files: The file of each modality.
        sizes: The numbers of a vector of each modality.
        keys: The utterances' names.
        labels: The class of each.
    """

    dataset: str
    name: str
    files: Mapping[str, Path]
    sizes: Mapping[str, int]
    keys: Sequence[str]
    labels: np.ndarray

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        vectors = [pa.field(modality, sequence_type(size)) for modality, size in self.sizes.items()]
        return pa.schema([*vectors, pa.field("id", pa.string()), pa.field("label", pa.int64())])

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash of the files, the utterances and their labels."""
        digest = hashlib.sha256(json.dumps([*self.keys, *self.labels.tolist()]).encode())
        for path in self.files.values():
            digest.update(file_hash(path))
        return digest.digest()

    def count(self) -> int:
        """Return the number of utterances."""
        return len(self.keys)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in batches of at most ``rows`` rows.

        Raises:
            UserError: If a file is damaged.
        """
        for start in range(0, self.count(), rows):
            keys = self.keys[start : start + rows]
            own = {"id": pa.array(keys), "label": pa.array(self.labels[start : start + rows])}
            yield pa.record_batch({c: own[c] if c in own else self._vectors(c, keys) for c in columns})

    def word(self, row: int) -> str:
        """Return the row's split and the utterance's name."""
        return f"{self.name} {self.keys[row]}"

    def _vectors(self, modality: str, keys: Sequence[str]) -> pa.Array:
        path, size = self.files[modality], self.sizes[modality]
        with open_hdf5(self.dataset, path) as file:
            found = [np.asarray(file[key][()]) for key in keys]
        for key, vectors in zip(keys, found, strict=True):
            if vectors.ndim != 2 or vectors.shape[1] != size or vectors.dtype.kind not in "fiu":
                raise UserError(
                    f"dataset '{self.dataset}': {path}: {key} is {vectors.dtype} of shape {vectors.shape}; "
                    f"expected vectors of {size} numbers"
                )
        return sequence_column([without_padding(vectors) for vectors in found], size)
