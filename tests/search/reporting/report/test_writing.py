"""The report as a file."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from search.records.place import Place
from search.reporting.report import writing
from search.reporting.report.document import document_of
from search.reporting.report.writing import FILE, report_at_end, write_page
from tests.search.reporting.report.made_search import make_search
from trainables.errors import UserError


def test_the_page_holds_the_document(workplace: Path, squares: Path) -> None:
    folder = make_search(workplace / "runs" / "mine", squares)
    document = document_of([Place.of("mine")])
    write_page(document, folder / FILE)
    page = (folder / FILE).read_text()
    (embedded,) = re.findall(r'<script[^>]*id="document"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert json.loads(embedded) == json.loads(json.dumps(document))
    assert len(page) < 4_000_000
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / FILE).write_text("earlier")
    document = {"version": "0", "made": "2026-11-27T00:00:00+00:00", "searches": []}
    monkeypatch.setattr("search.records.files.move_synced", full)
    with pytest.raises(UserError, match=r"report\.html: cannot be written \(No space left on device\)"):
        write_page(document, tmp_path / FILE)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_text() == "earlier"


def test_whatever_goes_wrong_at_the_end_of_a_search_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings:
        place = Place(str(tmp_path), "mine")

    class Setup:
        config = Settings()

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / FILE).write_text("of an earlier end")
    said: list[str] = []
    report_at_end(Setup(), None, None, said.append, interrupted=False)  # type: ignore[arg-type]
    (line,) = said
    assert line.startswith("there is no report: AttributeError(")
    assert not (tmp_path / "mine" / FILE).exists()
    assert writing.FILE == "report.html"
