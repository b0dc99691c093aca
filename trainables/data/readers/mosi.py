"""CMU-MOSI and CMU-MOSEI: opinions in text, sound and video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from trainables.data.readers.affect import MODALITIES, Split, modalities_said, pickle_of, read_parts
from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.published import sizes_note
from trainables.reading_settings import ReadingSettings

#: The labels in a pickle of MMSA, and in one of MulT.
_MMSA, _MULT = "regression_labels", "labels"
#: What else MMSA's has a row.
_OTHERS = ("raw_text", "classification_labels", "annotations")


@register_reader
class Mosi(Reader):
    """A pickle of MMSA or of MulT, or a folder that has one. Labels are of shape (N,) or (N, 1, 1)."""

    name = "mosi"
    description = "CMU-MOSI: a pickle of MMSA (aligned_50.pkl) or of MulT (mosi_data.pkl)"

    #: The published number of rows of each split, as far as it is known.
    sizes: ClassVar[Mapping[str, int]] = {"train": 1284, "validation": 229, "test": 686}

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the pickle."""
        path = pickle_of(name, path)
        parts, notes = read_parts(name, path, _columns)
        counts = {split: part.count() for split, part in parts.items()}
        said = {
            "paretofuse.modalities": modalities_said(MODALITIES),
            "paretofuse.label": _MMSA if _MMSA in parts["train"].schema.names else _MULT,
            "paretofuse.task": "regression",
            "paretofuse.range": "[-3, 3]",
        }
        return Found(
            {split: [part] for split, part in parts.items()},
            path.parent,
            said,
            (*sizes_note(counts, self.sizes), *notes),
        )


def _columns(split: Split) -> dict[str, pa.Array]:
    """Return a split's labels, and the texts themselves."""
    label = _MMSA if _MMSA in split else _MULT
    return {key: split.one_a_row(key) for key in (label, *(key for key in _OTHERS if key in split))}


@register_reader
class Mosei(Mosi):
    """The same of CMU-MOSEI."""

    name = "mosei"
    description = "CMU-MOSEI: a pickle of MMSA (aligned_50.pkl) or of MulT (mosei_senti_data.pkl)"
    sizes: ClassVar[Mapping[str, int]] = {"train": 16326}
