"""Image augmentations for training, applied to whole batches of pixels as they are stored."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.rand_augment import LEVELS, RandAugment
from trainables.errors import UserError, unknown

#: Function of 8-bit pixels (B, S, S, 3) and a source of random numbers that returns other pixels.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (B, S, S, 3) left to right with probability one half."""
    chosen = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], pixels.flip(2), pixels)


def shift_flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image (B, S, S, 3) by up to an eighth of its side, repeating edge pixels, then ``flip``."""
    size = pixels.shape[1]
    margin = size // 8
    offsets = torch.randint(-margin, margin + 1, (len(pixels), 2), generator=generator)
    # Numbers of the rows and of the columns that each image's are taken from, each (B, S)
    rows, columns = (torch.arange(size) + offsets.T[..., None]).clamp(0, size - 1)
    images = torch.arange(len(pixels))[:, None, None]
    return flip(pixels[images, rows[:, :, None], columns[:, None, :]], generator)


AUGMENTATIONS: dict[str, Augmentation | None] = {"none": None, "flip": flip, "shift-flip": shift_flip}

#: How RandAugment is named, with its magnitude and its number of operations.
_RAND = re.compile(r"rand-m(\d{1,3})-n(\d{1,3})")


def get_augmentation(name: str) -> Augmentation | None:
    """Return the augmentation of a name, or None for ``none``.

    Args:
        name: A name in ``AUGMENTATIONS``, or ``rand-m9-n2`` for RandAugment of magnitude 9 with 2 operations.

    Raises:
        UserError: If the name is unknown.
    """
    rand = _RAND.fullmatch(name)
    if rand is not None:
        magnitude, count = map(int, rand.groups())
        if magnitude > LEVELS or not count:
            raise UserError(f"--augment {name}: m must be 0 to {LEVELS}, and n at least 1")
        return RandAugment(magnitude, count)
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, [*AUGMENTATIONS, "rand-mM-nN"])
    return AUGMENTATIONS[name]
