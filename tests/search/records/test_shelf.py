"""The searches in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from search.records.opening import created_store
from search.records.place import FILE, Place
from search.records.shelf import ENDED, State, removing, shelf
from search.records.status import Status
from search.records.store import SearchStore
from tests.search.buckets import s3_server
from trainables.errors import UserError

Make = Callable[..., Place]


def remove(place: Place) -> None:
    with removing(place):
        pass


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a search with two trials, of which one has finished."""

    def make(name: str, ended: State | None) -> Place:
        place = Place(str(tmp_path / "runs"), name)
        with closing(SearchStore.create(place.folder, {"search_id": name, "begun": True})) as store:
            store.put_trial("trial-000", {"status": Status.FINISHED})
            store.put_trial("trial-001", {"status": Status.STOPPED})
            store.put_facts({ENDED: ended})
        (place.folder / "config.json").write_text(json.dumps({"space": "pmf_nas", "num_samples": 2}))
        if ended is not None:
            (place.folder / "result.json").write_text(json.dumps({"front": [{}], "hypervolume": 0.5}))
        (place.folder / "trial-000").mkdir()
        (place.folder / "trial-000" / "weights").write_bytes(bytes(1000))
        return place

    return make


def test_each_has_its_state(make: Make, tmp_path: Path):
    for name, ended in (("done", State.FINISHED), ("stopped", State.INTERRUPTED), ("killed", None)):
        make(name, ended)
    broken = make("broken", State.FINISHED)
    (broken.folder / FILE).write_bytes(b"no database at all")
    with closing(SearchStore.open(make("busy", None).folder)):
        found = {search.place.name: search for search in shelf(str(tmp_path / "runs"))}
    assert {name: search.state for name, search in found.items()} == {
        "done": State.FINISHED,
        "stopped": State.INTERRUPTED,
        "killed": State.INTERRUPTED,
        "broken": State.UNREADABLE,
        "busy": State.RUNNING,
    }
    done = found["done"]
    assert (done.space, done.trials, done.planned, done.front, done.hypervolume) == ("pmf_nas", 1, 2, 1, 0.5)
    assert done.size > 1000
    assert found["killed"].front is None
    assert "--resume" in found["killed"].go_on
    assert found["busy"].go_on == ""
    assert "process" in found["busy"].note


def test_one_is_removed_with_all_of_its_files(make: Make):
    one, other = make("one", State.FINISHED), make("other", State.FINISHED)
    remove(one)
    assert not one.folder.exists()
    assert (other.folder / "trial-000" / "weights").exists()
    with pytest.raises(UserError, match=r"no search was started there; .* holds other"):
        remove(one)


def test_one_that_is_run_stays_as_it_is(make: Make):
    place = make("busy", None)
    with (
        closing(SearchStore.open(place.folder)),
        pytest.raises(UserError, match="is being run by this process"),
    ):
        remove(place)
    assert (place.folder / "trial-000" / "weights").exists()


def test_an_error_keeps_it(make: Make):
    place = make("kept", State.FINISHED)
    with pytest.raises(KeyError), removing(place) as store:
        raise KeyError(store.fact("search_id"))
    assert [search.state for search in shelf(place.storage)] == [State.FINISHED]
    assert (place.folder / "trial-000" / "weights").exists()


def test_where_there_is_none(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such folder"):
        shelf(str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    assert shelf(str(tmp_path / "runs")) == []


def test_a_remote_one_is_removed_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
        place = Place("s3://bucket/runs", "far")
        with created_store(place, {"search_id": "far", "begun": True}, print):
            pass
        assert [search.place.name for search in shelf("s3://bucket/runs")] == ["far"]
        remove(place)
        assert shelf("s3://bucket/runs") == []
        with created_store(place, {"search_id": "new", "begun": True}, print):
            pass  # the name is free
