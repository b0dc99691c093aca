"""Models of a search in its folder, and at its remote address."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.exporting.members import choose, copy_out, members_of
from search.exporting.models import Models
from search.records.files import write_whole
from search.records.opening import created_store
from search.records.place import Place
from search.records.shelf import named
from tests.search.buckets import s3_server
from tests.trials import PMF, Saved
from trainables.errors import DiskFullError, UserError
from trainables.model import load_model
from trainables.trial.export import export_model
from trainables.trial.run import TrialRun

ABOUT = {
    "objective": {"name": "accuracy", "direction": "maximize"},
    "values": {"accuracy": 0.5},
    "memory": {"memory": 1.0},
    "members": 2,
}


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture
def model(trial_spec, tmp_path) -> Path:
    """A trained model's checkpoint."""
    run, folder = TrialRun(trial_spec, PMF), tmp_path / "checkpoint"
    folder.mkdir()
    run.save(folder)
    return folder


@pytest.fixture(params=["here", "remote"])
def place(request, server, workplace, monkeypatch) -> Iterator[Place]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    storage = str(workplace / "runs") if request.param == "here" else "s3://bucket/runs"
    found = Place(storage, request.node.name.replace("[", "-").replace("]", ""))
    with created_store(found, {"search_id": "first", "begun": True, "config": "{}"}, lambda line: None):
        yield found


def test_they_are_there_on_any_machine(place, model, trial_spec, workplace, monkeypatch) -> None:
    said: list[str] = []
    models = Models(place, said.append)

    def written(number: int, trial_id: str, accuracy: float) -> str | None:
        about = {**ABOUT, "trial_id": trial_id, "place": number, "values": {"accuracy": accuracy}}
        assignment = PMF.__class__(config=PMF.config, checkpoint=Saved(model))
        return models.write(
            trial_id, lambda folder: export_model(trial_spec, assignment, folder, about=about, card="# A\n")
        )

    assert written(1, "trial-001", 0.75) == "models/trial-001"
    assert written(2, "probe:text", 0.5) == "models/probe-text"
    assert written(3, "trial-002", 0.25) == "models/trial-002"
    models.keep(["trial-001", "probe:text"])
    assert said == []
    assert not (place.folder / "models" / "trial-002").exists()
    if place.remote:
        shutil.rmtree(place.folder / "models")
        assert models.fetch("probe:text"), said
        shutil.rmtree(place.folder / "models")
    members = members_of(place)
    assert [member.trial_id for member in members] == ["trial-001", "probe:text"]
    assert choose(members, None, None).trial_id == "trial-001"
    assert choose(members, "probe:text", None).number == 2
    copy_out(members[0], workplace / "copy", standalone=False)
    assert load_model(workplace / "copy").predict([{"text": "a square"}])[0]["probability"] > 0


def test_what_cannot_be_written_costs_a_line(place) -> None:
    said: list[str] = []
    models = Models(place, said.append)

    def broken(folder: Path) -> None:
        raise RuntimeError("files.json is missing\nand more")

    def full(folder: Path) -> None:
        raise DiskFullError("no space left")

    assert models.write("trial-001", broken) is None
    assert said == ["trial-001 has no model: RuntimeError: files.json is missing"]
    with pytest.raises(DiskFullError):
        models.write("trial-001", full)
    with pytest.raises(UserError, match=r"has no models yet|it has no models"):
        members_of(place)


def test_why_there_are_none(workplace) -> None:
    with pytest.raises(UserError, match="no search"):
        members_of(Place(str(workplace / "runs"), "none"))


def test_latest_is_the_search_that_began_last(workplace) -> None:
    for name, created in (("b", 2.0), ("a", 3.0), ("c", 1.0)):
        folder = workplace / "runs" / name
        folder.mkdir(parents=True)
        (folder / "search.sqlite").touch()
        write_whole(folder / "config.json", f'{{"created": {created}}}')
    assert named("latest", "runs").name == "a"
    assert named("c", "runs").name == "c"
    with pytest.raises(UserError, match="latest: none holds no searches"):
        named("latest", "none")
