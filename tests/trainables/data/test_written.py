"""Labels of text files have the type as which all of them are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from trainables.data import Dataset, open_dataset
from trainables.data.written import how_written
from trainables.task_settings import TaskSettings


def opened(folder: Path, labels: list[str], delimiter: str = ",", **settings: Any) -> Dataset:
    """Open a CSV file with a row of each label in each split."""
    lines = [delimiter.join(["text", "label", "split"])]
    for split in ("train", "validation", "test"):
        lines += [delimiter.join([f"{split} {i}", label, split]) for i, label in enumerate(labels)]
    (folder / "mine.csv").write_text("\n".join(lines))
    return open_dataset(str(folder / "mine.csv"), TaskSettings(**settings))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["1", "0", "-3"], "int64"),
        (["1.0", "2", ""], "double"),
        (["0.5", ".5", "1e-3", "-2"], "double"),
        (["007", "008"], "string"),
        (["1", "2", "NA"], "string"),
        (["nan", "1.5"], "string"),
        (["1e999", "1"], "string"),
        (["9" * 30], "double"),
        (["1", " 1"], "string"),
        (["None", "null", "True"], "string"),
        (["", " "], "string"),
        (["3,5", "4"], "double"),
        (["['a', 'b']", '["a"]', "[]"], "list<item: string>"),
        (["[1, 0]", "[0, 1]"], "list<item: int64>"),
        (["[a]", "[b]"], "string"),
        (["['a', 1]"], "string"),
        (["[exit()]"], "string"),
    ],
)
def test_the_type_is_that_of_all_labels(labels: list[str], kind: str) -> None:
    assert str(how_written(labels).type) == kind


@pytest.mark.parametrize(
    ("labels", "task"),
    [(["red", "blue"], "classification"), (["3", "1"], "classification"), (["0.5", "1"], "regression")],
)
def test_the_task_is_that_of_the_type(tmp_path: Path, labels: list[str], task: str) -> None:
    assert opened(tmp_path, labels).kind == task


def test_what_stands_between_tags_is_no_comma_of_a_number(tmp_path: Path) -> None:
    assert opened(tmp_path, ["1,2", "3"], ";").kind == "regression"
    dataset = opened(tmp_path, ["1,2", "3", ""], ";", tag_delimiter=",")
    assert dataset.kind == "multilabel"
    assert dataset.labels("train").tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_lists_are_tags(tmp_path: Path) -> None:
    dataset = opened(tmp_path, ["['a', 'b']", "['b']"], ";")
    assert dataset.kind == "multilabel"
    assert dataset.labels("train").tolist() == [[1, 1], [0, 1]]
    assert dataset.notes[-1] == "labels are lists, such as ['a', 'b']"


def test_decimal_commas_are_said(tmp_path: Path) -> None:
    dataset = opened(tmp_path, ["0,5", "1"], ";")
    assert dataset.kind == "regression"
    assert dataset.labels("train").flatten().tolist() == [0.5, 1]
    assert dataset.notes[-1] == "labels are numbers with decimal commas"


def test_what_looks_like_tags_is_said(tmp_path: Path) -> None:
    dataset = opened(tmp_path, ["a|b", "b", "a"])
    assert dataset.kind == "classification"
    assert dataset.notes[-1] == "labels such as 'a|b' are one class each; --tag-delimiter '|' makes them tags"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["1", "blue"],
            "labels are numbers such as '1' and names such as 'blue'; all of them are taken as names",
        ),
        (["[0 1]", "[1 0]"], "labels such as '[0 1]' are no lists that can be read; each is one class"),
        (["a, b", "b", "a"], "labels such as 'a, b' are one class each; --tag-delimiter ',' makes them tags"),
        (["007", "1"], None),
        (["Paris, France", "Rome, Italy", "Lima"], None),
    ],
)
def test_names_that_may_be_something_else_are_said(labels: list[str], said: str | None) -> None:
    written = how_written(labels)
    assert (written.type, written.note) == (pa.string(), said)


def test_an_empty_label_is_missing(tmp_path: Path) -> None:
    (batch,) = opened(tmp_path, ["1", ""]).batches("train", ["label", "text"])
    found: list[Any] = batch["label"].to_pylist()
    assert found == [1, None]
