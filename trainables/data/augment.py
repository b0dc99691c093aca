"""Image augmentations for training, applied to whole batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import unknown


def flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (B, 3, S, S) left to right with probability one half."""
    chosen = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], pixels.flip(-1), pixels)


def shift_flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image (B, 3, S, S) by up to an eighth of its side, repeating edge pixels, then ``flip``."""
    size = pixels.shape[-1]
    margin = size // 8
    padded = F.pad(pixels, [margin] * 4, mode="replicate")
    offsets = torch.randint(0, 2 * margin + 1, (len(pixels), 2), generator=generator).tolist()
    shifted = [image[:, y : y + size, x : x + size] for image, (y, x) in zip(padded, offsets, strict=True)]
    return flip(torch.stack(shifted), generator)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "flip": flip,
    "shift-flip": shift_flip,
}


def get_augmentation(name: str) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """Return the augmentation of a name, or None for ``none``.

    Raises:
        UserError: If the name is unknown.
    """
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]
