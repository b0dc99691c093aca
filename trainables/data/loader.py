"""Batches of a split: raw inputs, or the frozen prefix's cached output where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data.features import PrefixFeatures, to_device
from trainables.data.prepared import PreparedSplit
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class Batch:
    """Inputs by modality and labels (B,)."""

    inputs: dict[str, ModalityInput]
    labels: Tensor


class Loader:
    """Iterates over a split.

    Args:
        split: The rows.
        modalities: Modalities to load.
        batch_size: Rows a batch; the last one may be smaller.
        device: Where batches go.
        features: Cached prefix outputs, by modality; the others are loaded raw.
        augment: Applied to images, given the generator of the epoch.
    """

    def __init__(
        self,
        split: PreparedSplit,
        modalities: tuple[str, ...],
        batch_size: int,
        device: torch.device,
        features: Mapping[str, PrefixFeatures] | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        self.split = split
        self.modalities = modalities
        self.batch_size = batch_size
        self.device = device
        self.features = features or {}
        self.augment = augment

    def __len__(self) -> int:
        """Number of batches of one pass."""
        return -(-len(self.split) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[Batch]:
        """Yield one pass in the order, and with the augmentation, that the seed decides."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.split), generator=generator)
        for rows in order.split(self.batch_size):
            yield self.batch(rows, generator)

    def in_order(self) -> Iterator[Batch]:
        """Yield one pass in the order of the rows, without augmentation."""
        for rows in torch.arange(len(self.split)).split(self.batch_size):
            yield self.batch(rows)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Load some rows.

        Args:
            rows: Row numbers, shape (B,).
            generator: Decides the augmentation; None does without.
        """
        inputs: dict[str, ModalityInput] = {}
        for modality in self.modalities:
            if modality in self.features:
                inputs[modality] = to_device(self.features[modality].sequence(rows), self.device)
                continue
            raw = self.split.inputs(modality, rows)
            if generator is not None and self.augment is not None and modality == "image":
                raw["pixel_values"] = self.augment(raw["pixel_values"], generator)
            inputs[modality] = to_device(raw, self.device)
        return Batch(inputs, self.split.labels[rows].to(self.device))
