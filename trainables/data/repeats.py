"""Which values of a modality are there several times: within a split, and in a split and in train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from trainables.data.identities import EMPTY, MISSING, identities
from trainables.data.kinds.base import measured
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS

#: Share of a split's texts that may be in train, too, before it is a warning.
_TEXTS = 0.01

_FORMAT = 1  # increase when the fields below change

_NOUNS = {"text": "text", "image": "picture", "audio": "sound", "features": "vectors"}


@dataclass(frozen=True)
class Repeats:
    """Equal values of a modality.

    Attributes:
        rows: By split, the number of rows whose value is neither missing, nor empty, nor unreadable.
        distinct: Number of distinct values in these rows of all splits.
        within: By split, the number of rows whose value an earlier row of the split has.
        across: By split, and by each split before it, the number of rows whose value a row of that has.
        missing: By split, the numbers of the rows whose value is missing.
    """

    rows: Mapping[str, int]
    distinct: int
    within: Mapping[str, int]
    across: Mapping[str, Mapping[str, int]]
    missing: Mapping[str, list[int]]

    @classmethod
    def of(cls, values: Mapping[str, Iterable[bytes | None]]) -> Self:
        """Count equal values.

        Args:
            values: By split, the ``identity`` of each row's value.
        """
        lists = {split: list(of_split) for split, of_split in values.items()}
        real = {
            split: [value for value in of_split if value not in (None, MISSING, EMPTY)]
            for split, of_split in lists.items()
        }
        distinct = {split: {*of_split} for split, of_split in real.items()}
        return cls(
            {split: len(of_split) for split, of_split in real.items()},
            len(set().union(*distinct.values())),
            {split: len(of_split) - len(distinct[split]) for split, of_split in real.items()},
            {
                split: {
                    before: sum(value in distinct[before] for value in real[split])
                    for before in SPLITS[:place]
                }
                for place, split in enumerate(SPLITS[1:], 1)
            },
            {s: [row for row, v in enumerate(of_split) if v == MISSING] for s, of_split in lists.items()},
        )

    @property
    def constant(self) -> bool:
        """Whether all values are equal."""
        return self.distinct == 1 and sum(self.rows.values()) > 1


def repeats_of(dataset: Dataset, modality: str) -> Repeats:
    """Return which values of a modality are equal. The cache keeps it."""
    where = dataset.modalities[modality]

    def measure() -> dict[str, Any]:
        return asdict(Repeats.of({split: identities(dataset.rows, split, where) for split in SPLITS}))

    return Repeats(**measured(dataset, modality, f"repeats {_FORMAT} of {where.kind}", measure))


def repeat_warnings(
    modality: str,
    kind: str,
    across: Mapping[str, Mapping[str, int]],
    distinct: int,
    constant: bool,
    rows: Mapping[str, int],
) -> list[str]:
    """Return in sentences which equal values of a modality are probably not wanted.

    Args:
        modality: Name of the modality.
        kind: Its kind.
        across: See ``Repeats``.
        distinct: See ``Repeats``.
        constant: See ``Repeats``.
        rows: Number of rows by split.
    """
    noun = _NOUNS[kind] if modality == kind else f"{_NOUNS[kind]} of {modality}"
    if not distinct:
        return [f"{modality} is empty, missing or unreadable in all rows"]
    if constant:
        return [f"{modality} is the same in all rows"]
    least = _TEXTS if kind == "text" else 0
    return [
        f"{count:,} of {rows[split]:,} {split} rows have a {noun} that is in train"
        for split, count in ((split, shared[SPLITS[0]]) for split, shared in across.items())
        if count > least * rows[split]
    ]
