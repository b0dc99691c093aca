"""Outputs as a search keeps them: bounded, and the same rows for all trials."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.trial import outputs
from trainables.trial.outputs import compact, kept_rows


def test_a_small_split_is_kept_whole() -> None:
    whole = torch.randn(7, 3)
    kept = compact(whole)
    assert kept.dtype == np.float16
    assert kept == pytest.approx(whole.numpy(), abs=1e-2)


def test_of_a_large_split_the_same_rows_are_kept_in_order(monkeypatch) -> None:
    monkeypatch.setattr(outputs, "MOST_NUMBERS", 300)
    whole = torch.arange(1000.0)[:, None].expand(1000, 3)
    rows = compact(whole)[:, 0]
    assert rows.tolist() == kept_rows(1000, 3).tolist() == sorted(set(rows.tolist()))
    assert len(rows) == 100
    assert (kept_rows(1000, 3) == kept_rows(1000, 3)).all()
    assert kept_rows(1000, 400).shape == (1,), "never none"


def test_what_is_too_large_for_float16_stays_the_largest() -> None:
    assert np.isfinite(compact(torch.tensor([[1e9, -1e9, float("inf")]]))).all()
