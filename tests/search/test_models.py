"""Each member of the front of a real search is a model that answers as it did in the search."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig, resume_search, run_search
from search.exporting.applying import Reader
from search.exporting.commands import commands_of
from search.exporting.members import choose, copy_out, members_of
from search.exporting.scoring import open_labeled, score
from search.records.place import Place
from search.records.store import SearchStore
from search.result import SearchResult
from tests.search.on_ray import ray_in
from tests.trials import DAMAGE
from trainables.errors import UserError
from trainables.model import load_model, read_description

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_address: str, empty_store: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    with ray_in(folder, ray_address, empty_store):
        yield folder


@pytest.fixture(scope="module")
def finished(place, tiny_encoders, squares) -> SearchResult:
    """A search of three trials, with a probe."""
    return run_search(
        SearchConfig(
            space="pmf_nas",
            dataset=str(squares),
            text_encoder=str(tiny_encoders["bert"]),
            image_encoder=str(tiny_encoders["vit"]),
            num_samples=3,
            constraints=("step_time<=1000s",),  # which the probe has none of, so that trials are on the front
            epochs=1,
            batch_size=8,
            image_size=32,
            precision="fp32",
            target="cpu",
            max_concurrent=1,
            storage_path=str(place / "runs"),
            tracking_uri=f"sqlite:///{place}/mlflow.db",
            name="mine",
        )
    )


def copied(finished: SearchResult, name: str) -> Place:
    """Copy the search; the copy is a search of its own."""
    folder = Path(finished.folder).with_name(name)
    shutil.copytree(finished.folder, folder)
    return Place(str(folder.parent), name)


def resumed(place: Place, **changes: Any) -> tuple[SearchResult, str]:
    heard = io.StringIO()
    result = resume_search(place.address, console=Console(file=heard, width=250), **changes)
    return result, heard.getvalue()


def test_every_member_scores_as_the_search_has_said(finished, squares) -> None:
    assert finished.front
    for row in (*finished.front, finished.probe):
        folder = Path(finished.folder) / row["model"]
        description = read_description(folder)
        labeled = open_labeled(str(squares), description, None)
        assert labeled.same
        reader = Reader(load_model(folder, "cpu"), labeled.table)
        for split in ("validation", "test"):
            reported = description.about["metrics"][split]
            scores, rows = score(reader, [split], lambda done: None, reported)
            assert rows == 12
            assert scores.keys() == reported.keys()
            assert all(each.apart < 1e-6 for each in scores.values()), scores
        assert scores["accuracy"].value == pytest.approx(row["test_accuracy"])


def test_a_folder_says_what_it_is(finished) -> None:
    place = Place.of(finished.folder)
    settings = SearchConfig.from_json((place.folder / "config.json").read_text())
    for number, row in enumerate(finished.front, 1):
        folder = Path(finished.folder) / row["model"]
        about = read_description(folder).about
        assert (about["trial_id"], about["place"], about["members"]) == (
            row["trial_id"],
            number,
            len(finished.front),
        )
        text = (folder / "README.md").read_text()
        assert f"`{row['trial_id']}` of the search `mine`" in text
        assert f"number {number} of the {len(finished.front)} on the search's front" in text
        assert about["dataset"]["fingerprint"] in text
        assert "see its own licence" in text
        assert "None" not in text
        assert about["train"] in text
        assert (folder / "MLmodel").is_file()
        assert list(commands_of(row, settings)) == ["train", "export", "load", "apply", "score", "serve"]
    probe = Path(finished.folder) / "models" / "probe-text"
    text = (probe / "README.md").read_text()
    assert "A linear model on the frozen features of text." in text


def test_resumed_it_has_the_models_of_its_new_front(finished) -> None:
    place = copied(finished, "extended")
    stale = place.folder / "models" / "trial-777"
    shutil.copytree(place.folder / finished.front[0]["model"], stale)
    result, _ = resumed(place, num_samples="+1", seeds=2)
    assert not stale.exists()
    probes = {"probe", "probe-text", "probe-image"}
    of_front = {Path(row["model"]).name for row in result.front}
    assert of_front.isdisjoint(probes)
    assert {path.name for path in (place.folder / "models").iterdir()} == of_front | probes
    for row in result.front:
        about = read_description(place.folder / row["model"]).about
        assert about["seeds"] == row["seeds"]
        if about["seeds"] > 1:
            assert about["checkpoint"] == row["weights"]
            assert (
                f"means of {row['seeds']} trainings"
                in (place.folder / row["model"] / "README.md").read_text()
            )
    with closing(SearchStore.read(place.folder)) as store:
        stored = {trial_id: trial.get("model") for trial_id, trial, _ in store.trials()}
    trials = [row for row in result.front if row["trial_id"] in stored]
    assert {name for name, model in stored.items() if model} == {row["trial_id"] for row in trials}


def test_a_damaged_checkpoint_costs_a_line(finished) -> None:
    place = copied(finished, "damaged")
    row = finished.front[-1]
    DAMAGE["flipped"](place.folder / row["weights"] / "weights.safetensors")
    result, said = resumed(place)
    again = {each["trial_id"]: each["model"] for each in result.front}
    assert again[row["trial_id"]] == row["model"], "the model of before is whole"
    shutil.rmtree(place.folder / row["model"])
    result, said = resumed(place)
    again = {each["trial_id"]: each["model"] for each in result.front}
    assert again.pop(row["trial_id"]) is None
    assert all(again.values())
    assert f"{row['trial_id']} has no model: " in said
    assert "weights.safetensors" in said
    with pytest.raises(UserError, match=f"--member {row['trial_id']}: is no member|has no model"):
        choose(members_of(place), row["trial_id"], None)


def test_a_member_is_copied_out(finished, place) -> None:
    members = members_of(Place.of(finished.folder))
    assert [member.trial_id for member in members] == [row["trial_id"] for row in finished.front]
    best = max(finished.front, key=lambda row: row["accuracy"])
    assert choose(members, None, None).about["values"]["accuracy"] == best["accuracy"]
    cheapest = choose(members, "1", None)
    assert cheapest.trial_id == finished.front[0]["trial_id"]
    assert choose(members, None, cheapest.memory) == cheapest
    with pytest.raises(UserError, match=f"no member fits; the cheapest one, {cheapest.trial_id}, takes"):
        choose(members, None, 1000)
    with pytest.raises(UserError, match="--member 99: is no member of the front; there are 1 "):
        choose(members, "99", None)
    copy_out(cheapest, place / "out", standalone=True)
    assert load_model(place / "out").predict([{"text": "a red square"}])[0]["label"]
    with pytest.raises(UserError, match="out is there already"):
        copy_out(cheapest, place / "out", standalone=False)


def test_the_command_exports_the_latest_search(finished, place, capsys, monkeypatch) -> None:
    from search import cli

    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["search.py", "export", "mine", "exported", "--member", "1", "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    document = json.loads(capsys.readouterr().out)
    assert document["trial_id"] == finished.front[0]["trial_id"]
    assert (place / document["folder"] / "config.json").is_file()
