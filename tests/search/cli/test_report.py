"""The command ``report``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.search.reporting.report.made_search import held_open, make_search

Call = Callable[..., tuple[int, str, str]]


def test_a_search_has_its_report_in_its_folder(call: Call, workplace: Path, squares: Path) -> None:
    folder = make_search(workplace / "runs" / "mine", squares)
    code, out, _ = call("report", "mine")
    assert code == 0
    assert out == f"report: {folder / 'report.html'}   (open it in a browser)\n"
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_several_searches_have_theirs_where_it_is_wanted(call: Call, workplace: Path, squares: Path) -> None:
    for name in ("mine", "other"):
        make_search(workplace / "runs" / name, squares)
    assert call("report", "mine", "other")[0] == 0
    together = (workplace / "report.html").read_text()
    assert call("report", "mine", "runs/other", "--out", "both.html")[0] == 0
    for page in (together, (workplace / "both.html").read_text()):
        assert '"name":"mine"' in page
        assert '"name":"other"' in page


def test_the_latest_search_needs_no_name(call: Call, workplace: Path, squares: Path) -> None:
    for name in ("mine", "other"):
        make_search(workplace / "runs" / name, squares)
    code, out, _ = call("report", "latest", "--json")
    assert code == 0
    assert [search["name"] for search in json.loads(out)["searches"]] == ["other"]


def test_a_running_search_can_be_looked_at(call: Call, workplace: Path, squares: Path) -> None:
    folder = make_search(workplace / "runs" / "mine", squares, end=None)
    with held_open(folder):
        code, out, _ = call("report", "mine", "--json")
    assert code == 0
    (search,) = json.loads(out)["searches"]
    assert search["state"] == "running"
    assert not (folder / "report.html").exists()


def test_what_cannot_be_is_refused_in_a_line(call: Call, workplace: Path, squares: Path) -> None:
    make_search(workplace / "runs" / "mine", squares)
    code, _, err = call("report", "nosuch")
    assert code == 2
    assert err.endswith("no search was started there; " + f"{workplace / 'runs'} holds mine\n")
    code, _, err = call("report", "mine", "--out", "nowhere/report.html")
    assert code == 2
    assert err == f"error: --out nowhere/report.html: there is no folder {workplace / 'nowhere'}\n"
    code, _, err = call("report")
    assert code == 2
    assert "NAME" in err
