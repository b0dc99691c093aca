"""What a report shows of each task's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.records.place import Place
from search.reporting.report.document import document_of
from tests.search.reporting.report.made_search import finished, make_search
from trainables.tasks import TASKS

_MANY = 40


def dataset_of(folder: Path, labels: dict[str, list[Any]]) -> Path:
    """Write a dataset of texts with labels; return its folder."""
    folder.mkdir()
    for split, values in labels.items():
        texts = [f"text {row} of {split}" for row in range(len(values))]
        pq.write_table(pa.table({"text": texts, "label": values}), folder / f"{split}.parquet")
    return folder


def every_split(values: list[Any]) -> dict[str, list[Any]]:
    return {"train": values * 3, "validation": values, "test": values}


def search_on(folder: Path, dataset: Path, **settings: Any) -> dict[str, Any]:
    made = make_search(folder / "runs" / "mine", dataset, **settings)
    document = json.loads(json.dumps(document_of([Place.of(str(made))]), allow_nan=False))
    (search,) = document["searches"]
    return dict(search)


def test_the_least_frequent_of_many_classes_are_others(workplace: Path) -> None:
    labels = [f"class {number:02d}" for number in range(_MANY) for _ in range(4 if number % 2 else 2)]
    search = search_on(workplace, dataset_of(workplace / "data", every_split(labels)))
    classes = search["classes"]
    assert len(classes["names"]) == 30
    assert classes["names"][-1] == "others"
    assert {name for name in classes["names"][:20] if int(name[-2:]) % 2} == {*classes["names"][:20]}
    for member in classes["members"].values():
        assert [row["name"] for row in member["per_class"]] == classes["names"]
        assert sum(row["rows"] for row in member["per_class"]) == len(labels)
        assert [sum(row) for row in member["confusion"]] == [row["rows"] for row in member["per_class"]]
    assert any("29 most frequent of 40 classes" in note for note in search["notes"])


def test_tags_have_results_each_and_no_confusion(workplace: Path) -> None:
    labels = [["a"], ["a", "b"], ["c"], [], ["b", "c"], ["a", "c"]] * 2
    dataset = dataset_of(workplace / "data", every_split(labels))
    some = {f"trial-{number:03d}": finished(f"trial-{number:03d}", 1, number, number) for number in (0, 1)}
    search = search_on(workplace, dataset, task="multilabel", records=some)
    classes = search["classes"]
    assert classes["names"] == ["a", "b", "c"]
    assert all(member["confusion"] is None for member in classes["members"].values())
    best = classes["members"]["trial-001"]["per_class"]
    assert [(row["rows"], row["precision"], row["recall"], row["f1"]) for row in best] == [
        (6, 1, 1, 1),
        (4, 1, 1, 1),
        (6, 1, 1, 1),
    ]
    row = search["disagreements"]["rows"][0]
    assert row["answers"]["trial-001"] == row["truth"]
    assert row["values"]["text"]["text"] == f"text {row['row']} of test"


def test_numbers_have_no_classes_but_rows_on_which_they_differ(workplace: Path) -> None:
    dataset = dataset_of(workplace / "data", every_split([1.5, 2.5, 3.25, 8.0, 4.0, 6.5]))
    search = search_on(workplace, dataset, task="regression")
    assert search["classes"] is None
    assert "results by class: a regression has none" in search["notes"]
    rows = search["disagreements"]["rows"]
    assert len(rows) == 6
    assert {row["truth"] for row in rows} == {"1.5", "2.5", "3.25", "8", "4", "6.5"}
    assert all(float(answer) for row in rows for answer in row["answers"].values())


@pytest.mark.parametrize("task", [name for name in TASKS if name not in ("multilabel", "regression")])
def test_each_other_task_has_a_report(task: str, workplace: Path, squares: Path) -> None:
    settings = {"query": "text"} if task == "retrieval" else {}
    search = search_on(workplace, squares, task=task, **settings)
    assert search["task"].startswith(task)
    assert search["objectives"][1]["name"] in search["trials"][1]["values"]
    named = {"classes": "results by class", "disagreements": "rows on which members disagree"}
    for what, words in named.items():
        assert search[what] is not None or any(note.startswith(words) for note in search["notes"])
