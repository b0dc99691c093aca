"""Seeds: every one that a user may give, and what is derived from it, fits every generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from trainables.seeds import MAX_SEED, derive_seed, short_seed

#: Small ones, a date, and those around the limits of generators.
SEEDS = (0, 4295, 20261126, 2**31, 2**32 - 1, 2**32, MAX_SEED)


def test_a_derived_seed_depends_on_each_part_and_on_their_order() -> None:
    parts = [
        (0,),
        (1,),
        ("0",),
        (0, 0),
        (1, 23),
        (12, 3),
        (3, 12),
        (0, "a", 1),
        (0, "b", 1),
        (MAX_SEED, "a", 1),
    ]
    assert len({derive_seed(*given) for given in parts}) == len(parts)
    assert [derive_seed(*given) for given in parts] == [derive_seed(*given) for given in parts]


def test_a_derived_seed_stays_what_it_is() -> None:
    """A search that is resumed by a later version must go on as it would have."""
    assert [derive_seed(0, "rows", 3), derive_seed(20261126)] == [3295644109, 3791454363]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_generator_takes_it(seed) -> None:
    for fitting in (short_seed(seed), derive_seed(seed, "rows", 3)):
        assert np.random.RandomState(fitting).random() == np.random.RandomState(fitting).random()
        np.random.default_rng(fitting)
        random.Random(fitting)
        torch.Generator().manual_seed(fitting)


def test_a_seed_that_fits_is_taken_as_it_is_and_a_longer_one_is_no_other() -> None:
    assert [short_seed(seed) for seed in SEEDS[:5]] == list(SEEDS[:5])
    assert len({short_seed(seed) for seed in SEEDS}) == len(SEEDS)
