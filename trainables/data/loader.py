"""Batches of a split, with raw inputs or the frozen prefix's cached output."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainables.data.augment import Augmentation
from trainables.data.cells import BLANK
from trainables.data.features import PrefixFeatures, to_device
from trainables.data.prepared import PreparedSplit
from trainables.towers import PRESENCE, ModalityInput


@dataclass(frozen=True)
class Batch:
    """A batch: the inputs of a method, and the labels of shape (B,) or (B, K)."""

    inputs: dict[str, ModalityInput]
    labels: Tensor


class Loader:
    """Loads the rows of a split in batches.

    Texts are padded to about the longest one of the batch.

    Args:
        split: The rows.
        modalities: Modalities to load.
        batch_size: Number of rows per batch; the last batch may be smaller.
        device: Device to which batches are moved.
        features: Cached prefix outputs by modality. Other modalities are loaded as raw inputs.
        augment: Changes images in training; see ``augment.Augmentation``.
        presence: Whether batches say which values are present, see ``FusionMethod.present``.
        droppable: Modalities that rows may lose; None means all.
    """

    def __init__(
        self,
        split: PreparedSplit,
        modalities: tuple[str, ...],
        batch_size: int,
        device: torch.device,
        features: Mapping[str, PrefixFeatures] | None = None,
        augment: Augmentation | None = None,
        presence: bool = False,
        droppable: Collection[str] | None = None,
    ) -> None:
        self.split = split
        self.modalities = modalities
        self.batch_size = batch_size
        self.device = device
        self.features = features or {}
        self.augment = augment
        self.presence = presence
        self._droppable = torch.tensor([droppable is None or m in droppable for m in modalities])
        self._away: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        return -(-len(self.split) // self.batch_size)

    def without(self, modalities: Iterable[str]) -> Self:
        """Return a loader of the same rows in which some modalities are missing everywhere."""
        other = copy.copy(self)
        other._away = self._away | frozenset(modalities)
        return other

    def shuffled(self, seed: int, dropout: float = 0) -> Iterator[Batch]:
        """Yield the batches of one pass.

        Args:
            seed: Decides the order, the augmentation and what is dropped.
            dropout: Probability with which a row loses a modality.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.split), generator=generator)
        for rows in order.split(self.batch_size):
            yield self.batch(rows, generator, dropout)

    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of one pass in the order of the rows, without augmentation.

        Args:
            batch_size: Number of rows per batch; None takes the loader's.
        """
        for rows in torch.arange(len(self.split)).split(batch_size or self.batch_size):
            yield self.batch(rows)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None, dropout: float = 0) -> Batch:
        """Load the given rows as one batch.

        Args:
            rows: Row numbers, shape (B,).
            generator: Source of random numbers; None turns augmentation and dropout off.
            dropout: Probability with which a row loses a modality.
        """
        change, augment = self.augment, None
        if generator is not None and change is not None:
            augment = lambda pixels: change(pixels, generator)  # noqa: E731
        numbers = torch.stack([self._numbers(modality, rows) for modality in self.modalities])
        if generator is not None and dropout:
            some = numbers[self._droppable]
            numbers[self._droppable] = some.masked_fill(lost(some != BLANK, dropout, generator), BLANK)
        inputs: dict[str, ModalityInput] = {}
        for modality, of_rows in zip(self.modalities, numbers, strict=True):
            if modality in self.features:
                inputs[modality] = to_device(self.features[modality].of_cells(of_rows), self.device)
                continue
            cells = self.split.cells[modality]
            raw = cells.kind.trimmed(cells.inputs(of_rows, augment))
            inputs[modality] = to_device(raw, self.device)
        if self.presence:
            present = dict(zip(self.modalities, numbers != BLANK, strict=True))
            inputs[PRESENCE] = to_device(present, self.device)
        return Batch(inputs, self.split.labels[rows].to(self.device))

    def _numbers(self, modality: str, rows: Tensor) -> Tensor:
        """Return the numbers of the cells (B,) of some rows."""
        numbers = self.split.index[modality][rows]
        return torch.full_like(numbers, BLANK) if modality in self._away else numbers


def lost(present: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return which modalities rows lose at random; a row never loses all that it has.

    Each is lost with probability ``rate``. A row that would be left with none keeps one, any with the same
    probability.

    Args:
        present: Whether each row has a modality, shape (M, B).
        rate: The probability.
        generator: Source of random numbers.

    Returns:
        A mask of shape (M, B).
    """
    drawn = torch.rand(present.shape, generator=generator) < rate
    preferred = torch.rand(present.shape, generator=generator).masked_fill(~present, -1).argmax(dim=0)
    empty = (present & ~drawn).sum(dim=0) == 0
    drawn[preferred[empty], empty.nonzero(as_tuple=True)[0]] = False
    return drawn
