"""What the pickles of CMU-MOSI, CMU-MOSEI and IEMOCAP have in common.

They are those of MMSA (github.com/thuiar/MMSA) and of MulT (github.com/yaohungt/Multimodal-Transformer): a
dictionary by split, of dictionaries with arrays of one row a sample.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.readers.pickles import as_text, named, read_pickle
from trainables.data.readers.published import SPLIT_NAMES, either
from trainables.data.readers.sequences import SequencePart, unpadded
from trainables.errors import UserError

#: The modalities, in the order in which MulT and Wander take them.
MODALITIES = ("text", "audio", "vision")

_SHOWN = 8  # files that a message names


@dataclass(frozen=True)
class Split:
    """What a pickle has of one split.

    Attributes:
        where: The split in error messages.
        path: The file.
        name: What the file calls the split.
        content: The split's dictionary.
    """

    where: str
    path: Path
    name: str
    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        if key not in self.content:
            raise UserError(f"{self.where} has no '{key}'; it has {', '.join(self.content)}")
        return self.content[key]

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def array(self, key: str) -> np.ndarray:
        """Return numbers of shape (N, T, F).

        Raises:
            UserError: If they are missing or of another shape.
        """
        found = self[key]
        if not isinstance(found, np.ndarray):
            what = f"a {type(found).__name__}"
        elif found.ndim == 3 and all(found.shape[1:]) and found.dtype.kind in "fiu":
            return found
        else:
            what = f"an array of {found.dtype} of shape {found.shape}"
        raise UserError(f"{self.where}: '{key}' is {what}; expected numbers of shape (rows, steps, numbers)")

    def one_a_row(self, key: str) -> pa.Array:
        """Return a column of texts or of numbers.

        Raises:
            UserError: If it is missing, or if it is not one a row.
        """
        values = np.asarray(self[key])
        if not values.ndim or values.size != len(values):
            raise UserError(f"{self.where}: '{key}' has shape {values.shape}; expected one a row")
        return pa.array(as_text(v) if isinstance(v, bytes) else v for v in values.ravel().tolist())

    def words(self) -> list[str] | None:
        """Return what the file calls each row, which may be several words or bytes; None if it does not."""
        if "id" not in self:
            return None
        return [
            " ".join(map(as_text, row)) if isinstance(row, (list, tuple, np.ndarray)) else as_text(row)
            for row in self["id"]
        ]


def read_parts(
    name: str, path: Path, labels: Callable[[Split], Mapping[str, pa.Array]]
) -> tuple[dict[str, SequencePart], list[str]]:
    """Return the rows of a pickle by split, and what the user should know, a sentence each.

    Args:
        name: The dataset's name in error messages.
        path: The pickle.
        labels: Returns the columns of a split that have one value a row.

    Raises:
        UserError: If something is missing, of another shape, or of another number of rows.
    """
    content = named(read_pickle(name, path))
    if content is None:
        raise UserError(f"dataset '{name}': {path} is no dictionary with train, valid and test")
    parts: dict[str, SequencePart] = {}
    replaced = dict.fromkeys(MODALITIES, 0)
    for split, names in SPLIT_NAMES.items():
        written = next((each for each in names if each in content), split)
        found = named(content.get(written))
        if found is None:
            there = ", ".join(content)
            raise UserError(f"dataset '{name}': {path} has no dictionary {either(names)}; it has {there}")
        where = f"dataset '{name}': {path}: {written}"
        try:
            parts[split], counts = _part(Split(where, path, written, found), labels)
        except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
            raise UserError(f"{where} has values of another type than expected ({error})") from error
        replaced = {modality: count + counts[modality] for modality, count in replaced.items()}
    notes = [f"{n:,} numbers of {m} are -inf or NaN and count as 0" for m, n in replaced.items() if n]
    return parts, notes


def _part(
    split: Split, labels: Callable[[Split], Mapping[str, pa.Array]]
) -> tuple[SequencePart, dict[str, int]]:
    """Return the rows of a split, and how many numbers of each modality count as 0."""
    arrays = {modality: split.array(modality) for modality in MODALITIES}
    lengths = {
        modality: np.asarray(split[f"{modality}_lengths"]).astype(np.int64).ravel()
        for modality in MODALITIES
        if f"{modality}_lengths" in split
    }
    # Of BERT's inputs for the text, the ids of tokens, their mask and their segments
    mask = {"text": split.array("text_bert")[:, 1]} if "text_bert" in split else {}
    words, columns = split.words(), dict(labels(split))
    if words is not None:
        columns["id"] = pa.array(words)
    counts = {key: len(value) for key, value in (arrays | columns).items()}
    counts |= {f"{key}_lengths": len(value) for key, value in lengths.items()}
    if len({*counts.values()}) > 1:
        said = ", ".join(f"{count:,} of {key}" for key, count in counts.items())
        raise UserError(f"{split.where} has different numbers of rows: {said}")
    if mask and mask["text"].shape != arrays["text"].shape[:2]:
        raise UserError(
            f"{split.where}: 'text_bert' has masks of shape {mask['text'].shape}, and 'text' has the shape "
            f"{arrays['text'].shape}"
        )
    for modality, ends in lengths.items():
        if len(ends) and ends.max() > arrays[modality].shape[1]:
            raise UserError(
                f"{split.where}: '{modality}_lengths' has {ends.max():,}, and '{modality}' has the shape "
                f"{arrays[modality].shape}"
            )
    sequences, replaced = unpadded(arrays, lengths, mask)
    return SequencePart(split.path, split.name, pa.record_batch(columns), sequences, words), replaced


def pickle_of(name: str, path: Path, *others: str) -> Path:
    """Return the only pickle of a folder, or of its folder ``Processed``; or the file that is given.

    Args:
        name: The dataset's name in error messages.
        path: The folder or file.
        others: What else the folder could have had instead.

    Raises:
        UserError: If it has none or several.
    """
    if not path.is_dir():
        return path
    there = sorted([*path.glob("*.pkl"), *path.glob("Processed/*.pkl")])
    if not there:
        wanted = either(["*.pkl", "Processed/*.pkl", *others])
        found = ", ".join(sorted(each.name for each in path.iterdir())[:_SHOWN]) or "nothing"
        raise UserError(f"dataset '{name}': {path} has no {wanted}; it has {found}")
    if len(there) > 1:
        which = ", ".join(str(each.relative_to(path)) for each in there)
        raise UserError(f"dataset '{name}': {path} has several pickles ({which}); give the path of one")
    return there[0]


def modalities_said(names: Sequence[str]) -> str:
    """Return modalities of extracted features, in columns of their own names, as the metadata say them."""
    return json.dumps({each: {"column": each, "kind": "features"} for each in names})
