"""A part of the training split."""

from __future__ import annotations

import pytest
import torch

from trainables.data.few import Few, strata

N = 1000


def _labels(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    numbers = torch.rand(N, generator=generator)
    if kind == "classes":  # of very different sizes
        return (6 * numbers**3).long()
    if kind == "tags":
        return (torch.rand(N, 3, generator=generator) < torch.tensor([0.5, 0.2, 0.02])).float()
    return numbers if kind == "number" else torch.stack([numbers, -numbers], dim=1)


@pytest.mark.parametrize("kind", ["classes", "tags", "number", "numbers"])
def test_strata_have_their_shares_and_smaller_parts_are_in_larger_ones(kind) -> None:
    labels = _labels(kind)
    whole = strata(labels).bincount()
    larger = set(range(N))
    for count in (512, 256, 64, 16):
        rows = Few(count, seed=3).rows(labels)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert len(rows) == count
        assert set(rows.tolist()) < larger
        larger = set(rows.tolist())
        there = strata(labels)[rows].bincount(minlength=len(whole))
        assert (there - count * whole / N).abs().max() <= len(whole), f"{there} of {whole}"
        assert (there > 0).all()


def test_a_seed_decides_which_rows() -> None:
    labels = _labels("classes")
    one, same, other = (Few(64, seed).rows(labels) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_rare_tag_is_not_lost() -> None:
    labels = _labels("tags")
    assert labels[:, 2].sum() < 30
    assert labels[Few(8, seed=0).rows(labels), 2].sum() >= 1


def test_all_rows_are_all_rows() -> None:
    labels = _labels("number")
    assert Few(N, seed=0).rows(labels).tolist() == list(range(N))
