"""What a user says about how a dataset is read.

This module imports nothing slow, because the command line reads all fields before it does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.options import AtMost, Help, MoreThan, OneOf, Settings

#: What becomes of rows that cannot be read: they are refused, left out, or their value counts as missing.
BAD_ROWS = ("error", "skip", "missing")


@dataclass(frozen=True, kw_only=True)
class ReadingSettings(Settings):
    """The dataset's format and columns, its splits, and what becomes of damaged rows."""

    panel: ClassVar[str | None] = "Reading the dataset"

    format: Annotated[
        str | None,
        Help(
            "Format of the dataset; docs/data.md lists them.",
            metavar="NAME",
            default="found by what is there",
        ),
    ] = None
    columns: Annotated[
        str | None,
        Help(
            "The columns of modalities and labels, for example text=caption,image=file,label=genre. A "
            "modality of another name than its kind says it as premise:text=sentence1.",
            metavar="NAME=COLUMN[,…]",
            default="what the dataset says, else found by name and type",
        ),
    ] = None
    validation_fraction: Annotated[
        float,
        Help(
            "Share of the rows that become the validation split where the dataset has none, and the test "
            "split likewise. A picture or a text is never on two sides, and each class has its share.",
            metavar="NUMBER",
        ),
        MoreThan(0),
        AtMost(0.4),
    ] = 0.15
    bad_rows: Annotated[
        str,
        Help(
            "What becomes of rows that cannot be read. error refuses them, skip leaves them out, as those "
            "that have no label, and missing takes what cannot be read as missing.",
            metavar="|".join(BAD_ROWS),
        ),
        OneOf(BAD_ROWS),
    ] = "error"
    background: Annotated[
        str,
        Help(
            "Color on which transparent pictures are laid: a name such as black, or #RRGGBB.", metavar="COLOR"
        ),
    ] = "white"
