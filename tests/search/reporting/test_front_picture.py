"""The front as a picture."""

from __future__ import annotations

from search.goals.constraints import parse_constraint
from search.reporting.front_picture import plot_front
from tests.search.reporting.histories import of_three_methods


def test_a_picture_of_several_methods(tmp_path) -> None:
    plot_front(of_three_methods(parse_constraint("memory<=5GiB")), tmp_path / "front.svg", "all")
    drawn = (tmp_path / "front.svg").read_text()
    for words in ("linear", "wander", "pmf", "budget", "predicted training memory (GiB)", "accuracy"):
        assert f"<!-- {words} -->" in drawn


def test_without_a_budget_no_line_is_drawn(tmp_path) -> None:
    plot_front(of_three_methods(parse_constraint("accuracy>=50%")), tmp_path / "front.svg", "all")
    assert "<!-- budget -->" not in (tmp_path / "front.svg").read_text()
