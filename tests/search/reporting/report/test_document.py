"""The report's document, from the records of a search."""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.config import SearchConfig
from search.invocation import program
from search.records.outputs import FOLDER as OUTPUTS
from search.records.place import FILE, Place
from search.records.store import SearchStore
from search.reporting.report.document import document_of
from tests.search.reporting.report.made_search import (
    TRIALS,
    configuration,
    finished,
    held_open,
    make_search,
)
from trainables.errors import UserError


@pytest.fixture
def folder(workplace: Path, squares: Path) -> Path:
    """The folder of a search that has finished."""
    return make_search(workplace / "runs" / "mine", squares)


def search_in(folder: Path) -> dict[str, Any]:
    """Return the document of a search, as a page reads it."""
    document = json.loads(json.dumps(document_of([Place.of(str(folder))]), allow_nan=False))
    (search,) = document["searches"]
    return dict(search)


def rows_of(search: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in search["trials"]}


def test_values_are_those_in_the_store(folder: Path) -> None:
    search = search_in(folder)
    rows = rows_of(search)
    with closing(SearchStore.read(folder)) as store:
        for trial_id, document, epochs in store.trials():
            row = rows[trial_id]
            for name in ("accuracy", "macro_f1", "loss", "step_time"):
                assert row["values"][name] == epochs[-1][name]
            assert row["values"]["memory"] == document["memory"]["total"] / 2**30
            assert row["test"].items() <= document["test"].items()
            assert row["test"].keys() == {"accuracy", "macro_f1", "weighted_f1", "loss"}
            assert row["config"] | {"method": row["method"]} == document["config"]
            assert (row["status"], row["kind"], row["epochs"]) == ("finished", "trial", 2)
    assert search["members"] == ["probe", "trial-002", "trial-003"]
    assert [row["id"] for row in search["trials"] if row["front"]] == search["members"]
    assert (search["probe"], search["best_of_methods"]) == ("probe", ["trial-003"])
    assert [row["name"] for row in search["objectives"]] == ["memory", "accuracy", "params"]
    assert [row["unit"] for row in search["objectives"]] == ["GiB", "%", ""]
    assert search["task"] == "classification into 3 classes"
    assert search["state"] == "finished"


def test_luck_comes_from_outputs_and_labels(folder: Path) -> None:
    rows = rows_of(search_in(folder))
    member = rows["trial-002"]
    assert 0 < member["standard_error"]["accuracy"] < 0.2
    assert {"accuracy", "test_accuracy"} <= member["standard_error"].keys()
    assert 0 < member["p_front"] <= 1
    assert 0 <= rows["trial-003"]["p_better"] <= 1


def test_what_differs_between_trials(folder: Path) -> None:
    assert search_in(folder)["parameters"] == [
        {"name": "n_fusion_layers", "kind": "number", "log": False},
        {"name": "learning_rate", "kind": "number", "log": True},
    ]


def test_progress_counts_seconds_trials_and_epochs(folder: Path) -> None:
    progress = search_in(folder)["progress"]
    assert [point["trials"] for point in progress] == [1, 2, 3, 4]
    assert [point["seconds"] for point in progress] == [10, 20, 30, 40]
    assert [point["epochs"] for point in progress] == [2, 4, 6, 8]
    assert progress[0]["hypervolume"] < progress[-1]["hypervolume"]


def test_classes_of_members_on_the_test_split(folder: Path, squares: Path) -> None:
    classes = search_in(folder)["classes"]
    assert classes["split"] == "test"
    assert sorted(classes["names"]) == ["blue", "green", "red"]
    assert list(classes["members"]) == ["probe", "trial-002", "trial-003"]
    best = classes["members"]["trial-003"]
    assert best["confusion"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    assert [(row["rows"], row["f1"]) for row in best["per_class"]] == [(4, 1.0)] * 3
    third = classes["members"]["trial-002"]
    assert sum(map(sum, third["confusion"])) == 12
    for place, row in enumerate(third["per_class"]):
        truth = third["confusion"][place]
        assert row["recall"] == truth[place] / sum(truth)


def test_rows_on_which_members_disagree_have_what_they_hold(folder: Path) -> None:
    found = search_in(folder)["disagreements"]
    assert found["split"] == "test"
    assert [row["row"] for row in found["rows"]][:3] == [9, 10, 11], "where two of three are wrong"
    row = found["rows"][0]
    assert row["truth"] == "red"
    assert row["answers"] == {"probe": "blue", "trial-002": "green", "trial-003": "red"}
    assert row["values"]["text"] == {"text": "a red square"}
    head, _, content = row["values"]["image"]["picture"].partition(",")
    assert head == "data:image/jpeg;base64"
    with PIL.Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        red, green, blue = picture.getpixel((10, 10))
    assert red > 150 > max(green, blue)


def test_a_picture_is_shown_once_and_small(workplace: Path, squares: Path) -> None:
    dataset = workplace / "same"
    shutil.copytree(squares, dataset)
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, "PNG")
    table = pq.read_table(dataset / "test.parquet")
    column = table.column_names.index("image")
    same = pa.array([file.getvalue()] * len(table))
    long = pa.array(["a word " * 100] * len(table))
    table = table.set_column(column, "image", same).set_column(0, "text", long)
    pq.write_table(table, dataset / "test.parquet")
    search = search_in(make_search(workplace / "runs" / "mine", dataset))
    (row,) = search["disagreements"]["rows"]
    assert len(row["values"]["image"]["picture"]) <= 20_000
    assert len(row["values"]["text"]["text"]) == 300


def test_the_command_starts_the_same_search(folder: Path) -> None:
    search = search_in(folder)
    words = shlex.split(search["command"].removeprefix(program()))
    assert words[:2] == ["--space", "pmf_nas"]
    assert "--objectives" not in words
    assert words[words.index("--target") + 1] == "cpu"
    assert search["go_on"].endswith("--resume mine --num-samples +10")
    trained = search["commands"]["trial-003"]["train"]
    assert "--method pmf" in trained
    assert f"learning_rate={configuration(3)['learning_rate']:g}" in trained


def test_environment_and_data(folder: Path) -> None:
    search = search_in(folder)
    assert ["python", "3.11.7"] in search["environment"]
    data = dict(search["data"])
    assert data["rows"] == "48 train, 12 validation, 12 test"
    assert data["text encoder"] == "minilm, pooling cls, fingerprint cls"


def test_what_is_missing_is_named_with_the_reason(folder: Path, squares: Path) -> None:
    notes = search_in(folder)["notes"]
    assert "importance of settings: takes 10 finished configurations, and there are 4" in notes
    shutil.rmtree(folder / OUTPUTS)
    search = search_in(folder)
    assert search["classes"] is None
    assert search["disagreements"] is None
    assert any(note.startswith("results by class: no member has outputs") for note in search["notes"])


def test_without_the_dataset_luck_is_what_the_search_noted(workplace: Path, squares: Path) -> None:
    dataset = workplace / "squares"
    shutil.copytree(squares, dataset)
    folder = make_search(workplace / "runs" / "mine", dataset)
    shutil.rmtree(dataset)
    noted = {"p_front": 0.75, "p_better": None, "standard_error": {"accuracy": 0.0625}}
    rows = [{"trial_id": "trial-003", **noted}]
    finished = [row for row in rows_of(search_in(folder)).values() if row["status"] == "finished"]
    trials = sum(row["kind"] != "probe" for row in finished)
    result = {"trials": trials, "front": rows, "verdict": "better by a lot"}
    (folder / "result.json").write_text(json.dumps(result))
    search = search_in(folder)
    row = rows_of(search)["trial-003"]
    assert {name: row[name] for name in noted} == noted
    assert search["verdict"] == "better by a lot"
    assert search["classes"] is None
    assert any("no such file or folder" in note for note in search["notes"])
    (folder / "result.json").write_text(json.dumps({**result, "trials": trials - 1}))
    search = search_in(folder)
    assert search["verdict"] is None, "of a front that has changed since"
    assert rows_of(search)["trial-003"]["p_front"] is None


def test_a_dataset_that_has_changed_is_not_read(workplace: Path, squares: Path) -> None:
    dataset = workplace / "squares"
    shutil.copytree(squares, dataset)
    folder = make_search(workplace / "runs" / "mine", dataset)
    table = pq.read_table(dataset / "test.parquet")
    pq.write_table(table.take(list(range(11, -1, -1))), dataset / "test.parquet")
    search = search_in(folder)
    assert search["classes"] is None
    assert any("has changed since the search" in note for note in search["notes"])


def test_the_test_split_changes_nothing_that_was_chosen(workplace: Path, squares: Path) -> None:
    """Labels of the test split are of no use but to look at results."""
    plain = search_in(make_search(workplace / "runs" / "plain", squares))
    poisoned_data = workplace / "squares"
    shutil.copytree(squares, poisoned_data)
    table = pq.read_table(poisoned_data / "test.parquet")
    others = ["green" if label == "red" else "red" for label in table["label"].to_pylist()]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(others))
    pq.write_table(table, poisoned_data / "test.parquet")
    poisoned = search_in(make_search(workplace / "runs" / "poisoned", poisoned_data))
    assert poisoned["classes"] != plain["classes"]
    for name in ("members", "best_of_methods", "progress", "importance", "parameters"):
        assert poisoned[name] == plain[name]
    for row, other in zip(poisoned["trials"], plain["trials"], strict=True):
        for name in ("front", "values", "p_front", "p_better"):
            assert row[name] == other[name]
        assert row["standard_error"].get("accuracy") == other["standard_error"].get("accuracy")


def test_a_moved_search_is_where_it_is(folder: Path, workplace: Path) -> None:
    moved = workplace / "elsewhere" / "renamed"
    moved.parent.mkdir()
    folder.rename(moved)
    search = search_in(moved)
    assert search["name"] == "renamed"
    assert str(moved) in search["go_on"]


@pytest.mark.parametrize(
    ("open_", "state", "status"), [(True, "running", "running"), (False, "interrupted", "stopped")]
)
def test_a_search_that_runs_or_was_killed(
    workplace: Path, squares: Path, open_: bool, state: str, status: str
) -> None:
    begun = finished("trial-001", 2.0, 0.25, 1)
    begun.epochs.pop()
    records = {"trial-000": finished("trial-000", 1.0, 0.5, 0), "trial-001": begun}
    folder = make_search(workplace / "runs" / "mine", squares, end=None, records=records)
    with held_open(folder) if open_ else nullcontext():
        search = search_in(folder)
    assert search["state"] == state
    assert (search["go_on"] is None) == open_
    row = rows_of(search)["trial-001"]
    assert (row["status"], row["epochs"], row["front"]) == (status, 1, False)
    assert row["values"]["accuracy"] == 0.0


def test_a_search_at_a_remote_address(folder: Path, workplace: Path) -> None:
    here = search_in(folder)
    with closing(SearchStore.open(folder)) as store:
        content, _ = store.next_revision()
    there = workplace / "bucket" / "mine"
    shutil.copytree(folder / OUTPUTS, there / OUTPUTS)
    (there / FILE).write_bytes(content)
    (search,) = document_of([Place.of(f"file://{there}")])["searches"]
    for name in ("trials", "members", "classes", "progress", "state"):
        assert search[name] == here[name]
    assert f"--resume file://{there}" in search["go_on"]
    assert search["commands"].keys() == here["commands"].keys()


def test_seeds_are_one_configuration_with_a_spread(workplace: Path, squares: Path) -> None:
    first = finished("trial-000", 1.0, 0.5, 0)
    again = replace(finished("trial-001", 1.0, 0.75, 1), config=first.config, repeat_of="trial-000")
    records = {"trial-000": first, "trial-001": again}
    rows = rows_of(search_in(make_search(workplace / "runs" / "mine", squares, records=records, seeds=2)))
    assert rows["trial-000"]["values"]["accuracy"] == 0.625
    assert (rows["trial-000"]["seeds"], rows["trial-000"]["kind"]) == (2, "trial")
    assert rows["trial-000"]["spread"]["accuracy"] == pytest.approx(0.1767767)
    assert rows["trial-000"]["spread"]["test_accuracy"] == pytest.approx(0.1767767)
    assert (rows["trial-001"]["kind"], rows["trial-001"]["repeat_of"]) == ("repeat", "trial-000")
    assert rows["trial-001"]["values"]["accuracy"] == 0.75
    assert rows["trial-001"]["test"]["accuracy"] == 0.625


def test_a_training_is_a_search_of_one(workplace: Path, squares: Path) -> None:
    of_training = {"space": "pmf", "method": "pmf", "num_samples": 1, "sampler": "random", "probe": False}
    records = {"trial-000": finished("trial-000", 1.0, 0.5, 0)}
    folder = workplace / "runs" / "mine"
    make_search(folder, squares, records=records, settings=("L_f=10",), **of_training)
    shutil.rmtree(folder / OUTPUTS)  # the luck of all metrics takes seconds
    search = search_in(folder)
    assert search["space"] == "pmf"
    words = shlex.split(search["command"].removeprefix(program()))
    assert words[:5] == ["train", "--method", "pmf", "--set", "L_f=10"]
    names = [objective["name"] for objective in search["objectives"]]
    assert names == ["memory", "accuracy", "macro_f1", "weighted_f1", "loss", "params"]
    assert search["parameters"] == []


def test_a_search_in_which_nothing_has_finished(workplace: Path, squares: Path) -> None:
    begun = finished("trial-000", 1.0, 0.5, 0)
    begun.epochs.clear()
    folder = make_search(workplace / "runs" / "mine", squares, end=None, records={"trial-000": begun})
    shutil.rmtree(folder / OUTPUTS)
    search = search_in(folder)
    (trial,) = [row for row in search["trials"] if row["kind"] == "trial"]
    assert trial["values"] == {"memory": 1.0, "params": 10**6, "checkpoint": pytest.approx(3.8147)}
    assert (search["members"], search["best_of_methods"]) == (["probe"], [])
    assert search["classes"] is None


def test_several_searches_are_in_one_document(folder: Path, workplace: Path, squares: Path) -> None:
    other = make_search(workplace / "runs" / "other", squares)
    document = document_of([Place.of(str(folder)), Place.of(str(other))])
    assert [search["name"] for search in document["searches"]] == ["mine", "other"]


def test_a_search_without_trials_is_refused(workplace: Path) -> None:
    config = SearchConfig(space="pmf_nas")
    SearchStore.create(workplace / "runs" / "new", {"config": config.to_json()}).close()
    with pytest.raises(UserError, match="has no trials yet"):
        document_of([Place.of("new")])


def test_nothing_is_written_into_the_folder(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    search_in(folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_memory_is_expected_and_measured(folder: Path) -> None:
    memory = search_in(folder)["memory"]
    assert [row["memory"] for row in memory] == [gib for gib, _ in TRIALS]
    assert all(row["measured"] == row["expected"] == row["memory"] / 4 for row in memory)
