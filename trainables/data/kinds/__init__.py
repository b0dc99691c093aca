"""Kinds of modalities: which columns they are in, how their values are stored, and what encoders get of them.

A kind is one file here with a class that implements ``Kind``, and an entry in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from trainables.data.kinds.audio import Audio
from trainables.data.kinds.base import Content, Convert, Converted, Facts, Kind, Unreadable
from trainables.data.kinds.features import Features
from trainables.data.kinds.image import Image
from trainables.data.kinds.text import Text, typical_text_length

#: The kinds by name.
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (Text(), Image(), Audio(), Features())}


def kinds_of(column: pa.DataType) -> list[str]:
    """Return the names of the kinds that a column of this type may be of."""
    return [name for name, kind in KINDS.items() if kind.takes(column)]


__all__ = [
    "KINDS",
    "Content",
    "Convert",
    "Converted",
    "Facts",
    "Kind",
    "Unreadable",
    "kinds_of",
    "typical_text_length",
]
