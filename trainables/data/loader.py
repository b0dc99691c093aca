"""Batches of a split, with raw inputs or the frozen prefix's cached output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data.augment import Augmentation
from trainables.data.features import PrefixFeatures, to_device
from trainables.data.prepared import PreparedSplit
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class Batch:
    """A batch: the inputs by modality, and the labels of shape (B,) or (B, K)."""

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
    """

    def __init__(
        self,
        split: PreparedSplit,
        modalities: tuple[str, ...],
        batch_size: int,
        device: torch.device,
        features: Mapping[str, PrefixFeatures] | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        self.split = split
        self.modalities = modalities
        self.batch_size = batch_size
        self.device = device
        self.features = features or {}
        self.augment = augment

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        return -(-len(self.split) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[Batch]:
        """Yield the batches of one pass. The seed decides the order and the augmentation."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.split), generator=generator)
        for rows in order.split(self.batch_size):
            yield self.batch(rows, generator)

    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of one pass in the order of the rows, without augmentation.

        Args:
            batch_size: Number of rows per batch; None takes the loader's.
        """
        for rows in torch.arange(len(self.split)).split(batch_size or self.batch_size):
            yield self.batch(rows)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Load the given rows as one batch.

        Args:
            rows: Row numbers, shape (B,).
            generator: Source of random numbers for the augmentation; None turns augmentation off.
        """
        change, augment = self.augment, None
        if generator is not None and change is not None:
            augment = lambda pixels: change(pixels, generator)  # noqa: E731
        inputs: dict[str, ModalityInput] = {}
        for modality in self.modalities:
            if modality in self.features:
                inputs[modality] = to_device(self.features[modality].sequence(rows), self.device)
                continue
            kind = self.split.cells[modality].kind
            raw = kind.trimmed(self.split.inputs(modality, rows, augment))
            inputs[modality] = to_device(raw, self.device)
        return Batch(inputs, self.split.labels[rows].to(self.device))
