"""Image augmentation."""

from __future__ import annotations

import pytest
import torch

from trainables.data import AUGMENTATIONS, get_augmentation
from trainables.errors import UserError


def _augmented(name: str, pixels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    augment = get_augmentation(name)
    assert augment is not None
    return augment(pixels, torch.Generator().manual_seed(seed))


def test_flip_mirrors_half_of_the_images_and_changes_nothing_else() -> None:
    pixels = torch.rand(1000, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    flipped = _augmented("flip", pixels)
    same = (flipped == pixels).flatten(1).all(dim=1)
    mirrored = (flipped == pixels.flip(-1)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_shift_flip_moves_an_image_by_at_most_an_eighth() -> None:
    pixels = torch.zeros(200, 3, 16, 16)
    pixels[:, :, 8, 8] = 1
    shifted = _augmented("shift-flip", pixels)
    assert shifted.shape == pixels.shape
    image, _, y, x = shifted.nonzero().unbind(dim=1)
    assert image.tolist() == [i for i in range(200) for _ in range(3)]
    assert set(y.tolist()) == {6, 7, 8, 9, 10}
    assert set(x.tolist()) == {5, 6, 7, 8, 9, 10}  # 6 to 10, and mirrored


def test_shift_flip_repeats_the_edges() -> None:
    pixels = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16)
    assert torch.equal(_augmented("shift-flip", pixels), pixels)


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"none"}))
def test_generator_decides(name: str) -> None:
    pixels = torch.rand(32, 3, 16, 16)
    before = pixels.clone()
    assert torch.equal(_augmented(name, pixels, seed=3), _augmented(name, pixels, seed=3))
    assert not torch.equal(_augmented(name, pixels, seed=3), _augmented(name, pixels, seed=4))
    assert torch.equal(pixels, before)


def test_none_is_no_augmentation() -> None:
    assert get_augmentation("none") is None


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="unknown augmentation 'rotate'; known: flip, none, shift-flip"):
        get_augmentation("rotate")
