"""Where a search is, and how a user names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.invocation import program
from search.records.place import FILE, Place
from trainables.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_in_the_storage_and_a_path_is_where_it_leads(here: Path) -> None:
    assert Place.of("t") == Place(str(here / "runs"), "t")
    assert Place.of("t", "other") == Place(str(here / "other"), "t")
    assert Place.of("elsewhere/t/", "other") == Place(str(here / "elsewhere"), "t")
    assert Place.of("/data/runs/my search") == Place("/data/runs", "my search")
    assert Place.of("t").folder == here / "runs" / "t"
    assert Place.of("t").inside("trial-000/checkpoint_000001") == f"{here}/runs/t/trial-000/checkpoint_000001"


def test_the_current_folder_and_a_folder_in_it_may_be_searches(here: Path) -> None:
    (here / "moved").mkdir()
    (here / "moved" / FILE).touch()
    assert Place.of("moved") == Place(str(here), "moved")
    (here / "runs" / "moved").mkdir(parents=True)
    (here / "runs" / "moved" / FILE).touch()
    assert Place.of("moved") == Place(str(here / "runs"), "moved"), "the results' folder comes first"
    assert Place.of(".") == Place(str(here.parent), here.name)


def test_a_remote_search_is_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path))
    place = Place.of("t", "s3://bucket/runs/")
    assert place.address == "s3://bucket/runs/t"
    assert Place.of("s3://bucket/runs/t").address == place.address
    assert place.folder == tmp_path / "searches" / "s3" / "bucket" / "runs" / "t"
    assert place.folder != Place.of("t", "s3://other/runs").folder
    options = Place.of("t", "s3://bucket/runs?region=eu")
    assert options.address == "s3://bucket/runs/t?region=eu"
    assert Place.of(options.address) == options
    assert options.inside("trial-000") == "s3://bucket/runs/t/trial-000?region=eu"


@pytest.mark.parametrize("text", ["", "s3://bucket", "a\0b"])
def test_what_names_no_search_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="names no search"):
        Place.of(text)


def test_advice_can_be_pasted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/paretofuse"])
    assert Place.of("t").resume_command == "paretofuse --resume t"
    assert Place.of("t", "/data/my runs").resume_command == "paretofuse --resume '/data/my runs/t'"
    monkeypatch.setattr("sys.argv", ["search.py"])
    assert Place.of("t", "s3://b/runs").resume_command == "python search.py --resume s3://b/runs/t"
    monkeypatch.setattr("sys.argv", ["/somewhere/search/__main__.py"])
    assert program() == "python -m search"
