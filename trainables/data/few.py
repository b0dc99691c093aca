"""A part of the training split, in which labels have the shares that they have in all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.seeds import derive_seed

#: Parts of equal size into which numbers are divided, so that a part of the rows has numbers of all sizes.
_PARTS = 10


@dataclass(frozen=True)
class Few:
    """How many rows of the training split are used, and which.

    Of two numbers with one seed, the rows of the smaller one are among those of the larger one.

    Attributes:
        count: Number of rows.
        seed: Seed of the draw.
    """

    count: int
    seed: int

    def rows(self, labels: Tensor) -> Tensor:
        """Return the numbers of the rows (count,) that are used, in rising order.

        Args:
            labels: Labels of all rows, shape (N,) or (N, K).
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "training rows"))
        shuffled = torch.randperm(len(labels), generator=generator)
        of_row = strata(labels)[shuffled]
        by_stratum = of_row.argsort(stable=True)
        sizes = of_row.bincount()
        first = sizes.cumsum(0) - sizes
        rank = torch.empty_like(of_row)
        rank[by_stratum] = torch.arange(len(labels)) - first[of_row[by_stratum]]
        # The first rows of all strata come first. Then each stratum has its share of the rows at any time
        order = (rank / sizes[of_row]).argsort(stable=True)
        return shuffled[order[: self.count]].sort().values


def strata(labels: Tensor) -> Tensor:
    """Return the stratum of each row, a number >= 0: rows of one stratum are alike in their labels.

    A class is a stratum. Of several tags, the one that fewest rows have is the row's stratum, so that rare
    tags are not lost. Of other numbers, the first of a row counts: each tenth of them is a stratum.

    >>> strata(torch.tensor([[1, 0], [1, 1], [1, 0], [0, 0]])).tolist()
    [0, 1, 0, 2]

    Args:
        labels: Shape (N,) or (N, K).
    """
    if labels.ndim == 1 and not labels.is_floating_point():
        return labels.unique(return_inverse=True)[1]
    if labels.ndim == 2 and ((labels == 0) | (labels == 1)).all():
        tagged = labels.bool()
        rarity = tagged.sum(dim=0).expand(len(labels), -1).masked_fill(~tagged, len(labels) + 1)
        return torch.where(tagged.any(dim=1), rarity.argmin(dim=1), labels.shape[1])
    first = labels if labels.ndim == 1 else labels[:, 0]
    return first.argsort(stable=True).argsort(stable=True) * _PARTS // len(labels)
