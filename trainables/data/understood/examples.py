"""Some rows of a dataset, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.data.dealing import strata_of
from trainables.data.files import some_of
from trainables.data.source import Dataset, stored_labels
from trainables.data.splits import SPLITS
from trainables.seeds import shuffled

#: The kinds that can be looked at.
_SEEN = ("image", "text")


@dataclass(frozen=True)
class Example:
    """A row.

    Attributes:
        label: Its label as it is stored; None if there is none.
        texts: Its texts by modality. None is a value that is missing or cannot be read, here and below.
        pictures: The bytes of its pictures by modality.
    """

    label: Any
    texts: Mapping[str, str | None]
    pictures: Mapping[str, bytes | None]


def examples(dataset: Dataset, count: int) -> list[Example]:
    """Return at most ``count`` training rows, as many of each class as possible, those of a class together.

    The same rows are returned each time.
    """
    train = SPLITS[0]
    labels: list[Any] = [None] * dataset.count(train)
    if dataset.task.has_labels:
        labels = [
            label for part in stored_labels(dataset.rows, train, dataset.label) for label in part.to_pylist()
        ]
    strata, _ = strata_of(labels)
    order = np.array(shuffled(len(labels), "examples"))
    by_stratum = order[np.argsort(strata[order], kind="stable")]
    first = np.unique(strata[by_stratum], return_index=True)[1]
    turn = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
    chosen = by_stratum[np.argsort(turn, kind="stable")[:count]]
    rows = np.sort(chosen)
    some = some_of(dataset.rows, {train: rows}, {})
    used = {m: where for m, where in dataset.modalities.items() if where.kind in _SEEN}
    found: list[Example] = []
    for batch in some.batches(train, [where.column for where in used.values()], count):
        columns = {modality: dataset.contents(modality, batch) for modality in used}
        for place in range(batch.num_rows):
            values = {modality: contents[place] for modality, contents in columns.items()}
            found.append(
                Example(
                    labels[rows[len(found)]],
                    {
                        m: v if isinstance(v, str) else None
                        for m, v in values.items()
                        if used[m].kind == "text"
                    },
                    {
                        m: v if isinstance(v, bytes) else None
                        for m, v in values.items()
                        if used[m].kind == "image"
                    },
                )
            )
    return [found[place] for place in np.lexsort([rows, strata[rows]])]
