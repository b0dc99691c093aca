"""RandAugment: a few random operations on each image, all of one magnitude."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

#: The largest magnitude.
LEVELS = 30

#: Function of an image and a strength, from -1 to 1 with a random sign, that returns another image.
Operation = Callable[[Image.Image, float], Image.Image]


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0.3 * strength, 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, 0, 0.3 * strength, 1, 0))


def _translate_x(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, round(_FARTHEST * image.width * strength), 0, 1, 0))


def _translate_y(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, round(_FARTHEST * image.height * strength)))


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


def _affine(image: Image.Image, inverse: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, inverse)


#: Largest translation, as a share of the side.
_FARTHEST = 150 / 331

#: The operations of the paper (Sec. 3), with the ranges that torchvision gives them. Where a sign makes no
#: sense, the strength is taken without it.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _: image,
    "auto_contrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "rotate": lambda image, strength: image.rotate(30 * strength),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(255 * (1 - abs(strength)))),
    "color": _enhanced(ImageEnhance.Color),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


@dataclass(frozen=True)
class RandAugment:
    """Draws some operations for each image and applies them one after the other.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space
    (NeurIPS 2020), Sec. 3. What is moved into an image from outside of it is black.

    Attributes:
        magnitude: How strong the operations are, from 0 to ``LEVELS``.
        count: Number of operations.
    """

    magnitude: int = 9
    count: int = 2

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return other pixels for images (B, S, S, 3) of 8-bit numbers."""
        shape = (len(pixels), self.count)
        drawn = torch.randint(len(OPERATIONS), shape, generator=generator).tolist()
        signs = (2 * torch.randint(2, shape, generator=generator) - 1).tolist()
        operations = list(OPERATIONS.values())
        changed = []
        for array, numbers, of_image in zip(pixels.numpy(), drawn, signs, strict=True):
            image = Image.fromarray(array)
            for number, sign in zip(numbers, of_image, strict=True):
                image = operations[number](image, sign * self.magnitude / LEVELS)
            changed.append(np.asarray(image))
        return torch.from_numpy(np.stack(changed))
