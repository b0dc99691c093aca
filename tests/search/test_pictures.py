"""Figures that belong to nobody else."""

from __future__ import annotations

import matplotlib
import pytest
from matplotlib import pyplot

from search.pictures import new_figure


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written_and_pyplot_knows_nothing_of_it(tmp_path, monkeypatch, suffix) -> None:
    before = matplotlib.rcParams["backend"]
    monkeypatch.setattr(pyplot, "switch_backend", None)
    figure, axes = new_figure(3, 2)
    axes.plot([1, 2], [3, 4])
    figure.savefig(tmp_path / f"picture.{suffix}")
    assert (tmp_path / f"picture.{suffix}").stat().st_size > 1000
    assert pyplot.get_fignums() == []
    assert matplotlib.rcParams["backend"] == before
