"""The front as a picture."""

from __future__ import annotations

from search.goals.constraints import parse_constraint
from search.goals.luck import Luck
from search.reporting.front_picture import plot_front
from tests.search.reporting.histories import of_three_methods, probes


def test_a_picture_of_several_methods(tmp_path) -> None:
    plot_front(of_three_methods(parse_constraint("memory<=5GiB")), tmp_path / "front.svg", "all")
    drawn = (tmp_path / "front.svg").read_text()
    for words in ("linear", "wander", "pmf", "budget", "predicted training memory (GiB)", "accuracy"):
        assert f"<!-- {words} -->" in drawn


def test_without_a_budget_no_line_is_drawn(tmp_path) -> None:
    plot_front(of_three_methods(parse_constraint("accuracy>=50%")), tmp_path / "front.svg", "all")
    assert "<!-- budget -->" not in (tmp_path / "front.svg").read_text()


def test_what_is_unsure_is_faint_and_has_a_bar(tmp_path) -> None:
    history = of_three_methods()
    plot_front(history, tmp_path / "sure.svg", "all")
    history.trials["b"].luck = Luck(0.5, None, {"accuracy": 0.02})
    plot_front(history, tmp_path / "unsure.svg", "all")
    sure, unsure = ((tmp_path / name).read_text() for name in ("sure.svg", "unsure.svg"))
    assert "opacity: 0.625" not in sure
    assert "opacity: 0.625" in unsure
    assert unsure.count("LineCollection") == sure.count("LineCollection") + 1


def test_probes_are_drawn_by_name_on_the_front_or_off_it(tmp_path) -> None:
    history = of_three_methods()
    probes(history, 1.5, 0.7, text=0.2)
    plot_front(history, tmp_path / "front.svg", "all")
    drawn = (tmp_path / "front.svg").read_text()
    assert "<!-- probe -->" in drawn
    assert "<!-- probe:text -->" in drawn
