"""What tests of readers look at."""

from __future__ import annotations

import numpy as np

from trainables.data import Dataset
from trainables.data.kinds import Content


def cells(dataset: Dataset, modality: str, split: str = "train") -> list[Content]:
    """Return the contents of a modality."""
    batches = dataset.batches(split, [dataset.modalities[modality].column])
    return [cell for batch in batches for cell in dataset.contents(modality, batch)]


def vectors(dataset: Dataset, modality: str, split: str = "train") -> list[np.ndarray]:
    """Return the vectors of a modality, none of which is missing."""
    found = []
    for cell in cells(dataset, modality, split):
        assert isinstance(cell, np.ndarray)
        found.append(cell)
    return found


def lengths(dataset: Dataset, modality: str, split: str = "train") -> list[int]:
    """Return the number of vectors of each row; 0 for a missing value."""
    return [len(cell) if isinstance(cell, np.ndarray) else 0 for cell in cells(dataset, modality, split)]
