"""Splits for datasets that come without them.

Rows with the same picture, sound or text are a group, and a group is never divided. Groups are dealt out so
that each class has its share in each split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainables.data.columns import Modality
from trainables.data.dealing import deal, groups_of, strata_of
from trainables.data.files import some_of
from trainables.data.identities import EMPTY, identities
from trainables.data.readers import ALL
from trainables.data.rows import Rows
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

#: What values are called of the kinds whose equal values put rows into one group.
_NOUNS = {"image": "pictures", "text": "texts", "audio": "sounds"}

#: Largest share of the rows that a group may have.
_LARGEST = 0.5

#: Number of different labels up to which they may well be classes, however few rows there are.
_FEW = 20

_LABELS = 65_536  # labels read at a time


def with_all_splits(
    name: str,
    rows: Rows,
    modalities: Mapping[str, Modality],
    label: str | None,
    delimiter: Any,
    reading: ReadingSettings,
) -> tuple[Rows, str]:
    """Return rows with all splits, and in a sentence where they come from.

    Validation and test rows that are missing are taken from the training rows, or from rows of no split.
    Splits that are there stay as they are.

    Args:
        name: The dataset's name in error messages.
        rows: The rows, of ``ALL`` or of some splits.
        modalities: The modalities.
        label: Name of the label column; None if there is none.
        delimiter: What the dataset says to stand between the tags of a label; None if a label is one tag.
        reading: What the user says about reading.

    Raises:
        UserError: If there is nothing to take a split from, or if it would have no rows.
    """
    missing = [split for split in SPLITS[1:] if split not in rows.splits]
    source = next((split for split in (SPLITS[0], ALL) if split in rows.splits), None)
    if source is None:
        raise UserError(f"dataset '{name}': has no train split; it has {', '.join(rows.splits)}")
    total = rows.count(source)
    lacking = f"dataset '{name}': has no {' and no '.join(missing)} split"
    grouped = _grouped(rows, source, modalities)
    if grouped is None:
        raise UserError(
            f"{lacking}, and none can be taken from its {total:,} rows: most hang together by equal "
            f"{_nouns(modalities, modalities)}, which may not be on two sides; give files of all splits"
        )
    labels = [None] * total
    if label is not None:
        batches = rows.batches(source, [label], _LABELS)
        labels = [value for batch in batches for value in batch[label].to_pylist()]
    sides = deal(grouped.groups, *strata_of(labels, delimiter), reading.validation_fraction, len(missing))
    made = {split: np.flatnonzero(sides == side) for side, split in enumerate((SPLITS[0], *missing))}
    if not all(map(len, made.values())):
        different = len({str(value) for value in labels})
        if different > max(_FEW, total / 2):
            raise UserError(
                f"dataset '{name}': column '{label}' has {different:,} distinct values in {total:,} rows; is "
                "it the label, and if it has numbers, are all of them written as such?"
            )
        are = "rows are" if total > 1 else "row is"
        raise UserError(
            f"{lacking}, and its {total:,} {are} too few to take some for it{grouped.in_words}, because "
            "train keeps at least one of each class; give files of all splits"
        )
    kept = {split: made[split] if split in made else np.arange(rows.count(split)) for split in SPLITS}
    counts = [len(made[split]) for split in missing]
    shares = " and ".join(dict.fromkeys(f"{100 * count / total:.0f} %" for count in counts))
    became = "it" if len(missing) == 1 else "each"
    return some_of(rows, kept, dict.fromkeys(made, source)), (
        f"no {' and no '.join(missing)} split: {shares} of the {'training ' if source != ALL else ''}rows "
        f"({' and '.join(f'{count:,}' for count in counts)} of {total:,}{grouped.in_words}) became {became}; "
        "--validation-fraction sets the share"
    )


class _Grouped(NamedTuple):
    """Rows in groups.

    Attributes:
        groups: The number of each row's group, shape (N,).
        in_words: What the rows of a group have in common, in words that follow a number of rows.
    """

    groups: np.ndarray
    in_words: str


def _grouped(rows: Rows, source: str, modalities: Mapping[str, Modality]) -> _Grouped | None:
    """Return the groups of rows.

    A value that very many rows have, such as a text that says nothing, would join most rows to one group.
    Then values of its kind join no rows.

    Returns:
        The groups; None if one has most of the rows, whichever values join them.
    """
    total = rows.count(source)
    found: dict[str, list[bytes | None]] = {}
    for modality, where in modalities.items():
        if where.kind in _NOUNS:
            of_rows = identities(rows, source, where)
            found[modality] = [None if value == EMPTY else value for value in of_rows]
    texts = [modality for modality in found if modalities[modality].kind == "text"]
    files = [modality for modality in found if modality not in texts]
    for joining in dict.fromkeys((tuple(found), tuple(files), tuple(texts))):
        if found and not joining:
            continue
        groups = groups_of([found[modality] for modality in joining], total)
        if np.bincount(groups, minlength=1).max() > max(_LARGEST * total, 1):
            continue
        said = ""
        if len(np.unique(groups)) < total:
            said = f", in groups of equal {_nouns(modalities, joining)}"
        if len(joining) < len(found):
            others = _nouns(modalities, [modality for modality in found if modality not in joining])
            said += f"; equal {others} may be on two sides, because they join most rows"
        return _Grouped(groups, said)
    return None


def _nouns(modalities: Mapping[str, Modality], named: Sequence[str] | Mapping[str, Modality]) -> str:
    """Return what the values of modalities are called, in words."""
    kinds = dict.fromkeys(modalities[modality].kind for modality in named)
    return " or ".join(noun for kind, noun in _NOUNS.items() if kind in kinds)
