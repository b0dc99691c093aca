"""Image augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import AUGMENTATIONS, get_augmentation
from trainables.data.rand_augment import LEVELS, OPERATIONS
from trainables.errors import UserError

RAND = "rand-m9-n2"


def _pixels(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def _augmented(name: str, pixels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    augment = get_augmentation(name)
    assert augment is not None
    return augment(pixels, torch.Generator().manual_seed(seed))


def test_flip_mirrors_half_of_the_images_and_changes_nothing_else() -> None:
    pixels = _pixels(1000, 4, 6)
    flipped = _augmented("flip", pixels)
    same = (flipped == pixels).flatten(1).all(dim=1)
    mirrored = (flipped == pixels.flip(2)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_shift_flip_moves_an_image_by_at_most_an_eighth() -> None:
    pixels = torch.zeros(200, 16, 16, 3, dtype=torch.uint8)
    pixels[:, 8, 8] = 1
    shifted = _augmented("shift-flip", pixels)
    assert shifted.shape == pixels.shape
    image, y, x, _ = shifted.nonzero().unbind(dim=1)
    assert image.tolist() == [i for i in range(200) for _ in range(3)]
    assert set(y.tolist()) == {6, 7, 8, 9, 10}
    assert set(x.tolist()) == {5, 6, 7, 8, 9, 10}  # 6 to 10, and mirrored


def test_shift_flip_repeats_the_edges() -> None:
    pixels = _pixels(4, 1, 1).expand(4, 16, 16, 3)
    assert torch.equal(_augmented("shift-flip", pixels), pixels)


@pytest.mark.parametrize("name", [*sorted(set(AUGMENTATIONS) - {"none"}), RAND])
def test_generator_decides(name: str) -> None:
    pixels = _pixels(32, 16, 16)
    before = pixels.clone()
    assert torch.equal(_augmented(name, pixels, seed=3), _augmented(name, pixels, seed=3))
    assert not torch.equal(_augmented(name, pixels, seed=3), _augmented(name, pixels, seed=4))
    assert torch.equal(pixels, before)
    assert _augmented(name, pixels).dtype == torch.uint8


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_grows_with_the_magnitude(name: str) -> None:
    """Without strength it changes nothing, except for the three that have no strength."""
    image = Image.fromarray(_pixels(1, 32, 32)[0].numpy() // 2)  # of little contrast
    changes = [
        np.abs(np.asarray(OPERATIONS[name](image, strength)).astype(int) - np.asarray(image)).mean()
        for strength in (0, 0.3, 1)
    ]
    if name == "identity":
        assert changes == [0, 0, 0]
    elif name in ("auto_contrast", "equalize"):
        assert changes[0] == changes[1] == changes[2] > 0
    else:
        assert changes[0] == 0 <= changes[1] < changes[2]


def test_operations_are_those_of_torchvision_at_the_largest_magnitude() -> None:
    image = Image.fromarray(_pixels(1, 331, 331)[0].numpy())
    pixels = np.asarray(image)

    def at_most(name: str) -> np.ndarray:
        return np.asarray(OPERATIONS[name](image, 1))

    assert np.array_equal(at_most("translate_x")[:, :181], pixels[:, 150:]), "150 of 331 pixels"
    assert not at_most("translate_y")[181:].any(), "black from outside"
    assert np.array_equal(at_most("posterize"), pixels & 0b11110000), "four bits"
    assert np.array_equal(at_most("solarize"), 255 - pixels)
    assert np.array_equal(at_most("rotate"), np.asarray(image.rotate(30)))
    brighter = np.minimum(np.floor(1.9 * pixels.astype(float)), 255)
    assert np.abs(at_most("brightness") - brighter).max() <= 1


def test_each_image_gets_its_own_operations() -> None:
    pixels = _pixels(1, 16, 16).expand(200, 16, 16, 3)
    changed = {image.numpy().tobytes() for image in _augmented(f"rand-m{LEVELS}-n1", pixels)}
    assert len(changed) == 2 * 9 + 5, "nine operations have two directions, and five have one"


def test_none_is_no_augmentation() -> None:
    assert get_augmentation("none") is None


def test_other_names_are_refused() -> None:
    with pytest.raises(UserError, match="unknown augmentation 'rotate'; known: flip, none, rand-mM-nN"):
        get_augmentation("rotate")
    for name in ("rand-m31-n2", "rand-m9-n0"):
        with pytest.raises(UserError, match=f"--augment {name}: m must be 0 to 30, and n at least 1"):
            get_augmentation(name)
