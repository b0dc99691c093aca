"""Datasets that the Hugging Face library has saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from datasets import ClassLabel, Value

from trainables.data import Dataset, open_dataset
from trainables.data.readers import ALL, Found, read_path
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.formats import hf_dataset, png, put, rows

ROWS = rows("datasets")


def saved(folder: Path, **splits: Any) -> Path:
    """Save a dataset for each split, three rows of it unless one is given."""
    every = {split: given or hf_dataset(ROWS["test"]) for split, given in splits.items()}
    datasets.DatasetDict(every).save_to_disk(folder)
    return folder


def stored(features: dict[str, Any], values: dict[str, list[Any]]) -> datasets.Dataset:
    """Return a dataset with these features, whose values are not looked at."""
    schema = datasets.Features(features).arrow_schema
    return datasets.Dataset(pa.Table.from_pydict(values, schema=schema))


def read(path: Path) -> Found:
    return read_path(str(path), ReadingSettings())


def labels_of(dataset: Dataset, split: str) -> list[str]:
    return dataset.task.decode(dataset.labels(split))


def test_a_dataset_that_is_saved_alone_is_not_split(tmp_path: Path) -> None:
    hf_dataset(ROWS["train"]).save_to_disk(tmp_path / "one", num_shards=2)
    parts = read(tmp_path / "one").parts
    assert {split: sum(part.count() for part in own) for split, own in parts.items()} == {ALL: 12}


def test_folders_of_saved_datasets_are_splits(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        hf_dataset(ROWS["test"]).save_to_disk(tmp_path / split)
    assert {*read(tmp_path).parts} == {"train", "validation", "test"}


def test_other_splits_are_not_used_and_said(tmp_path: Path) -> None:
    found = read(saved(tmp_path / "a", train=None, valid=None, test=None, unsupervised=None))
    assert {*found.parts} == {"train", "validation", "test"}
    assert found.notes == ("not used: unsupervised, which are no splits",)


def test_classes_have_the_order_that_the_library_states(tmp_path: Path) -> None:
    """A class that no row has is one, too, and -1 is no class."""
    features = {"text": Value("string"), "label": ClassLabel(names=["z", "a", "m"])}
    given = stored(features, {"text": ["x", "y", "x"], "label": [1, 0, 1]})
    hidden = stored(features, {"text": ["x", "y"], "label": [-1, -1]})
    found = read(saved(tmp_path / "a", train=given, validation=given, test=hidden))
    assert json.loads(found.metadata["paretofuse.columns"])["label"] == {"classes": ["z", "a", "m"]}
    (batch,) = found.parts["test"][0].batches(["label"], 9)
    assert batch["label"].to_pylist() == [None, None]
    opened = open_dataset(str(saved(tmp_path / "b", train=given, validation=given, test=given)))
    assert opened.task.to_dict()["classes"] == ["z", "a", "m"]
    assert opened.labels("train").tolist() == [1, 0, 1]


def test_splits_may_number_their_classes_differently(tmp_path: Path) -> None:
    """And the one for testing may have no labels."""
    train = stored(
        {"text": Value("string"), "label": ClassLabel(names=["z", "a"])},
        {"text": ["x", "y"], "label": [0, 1]},
    )
    other = stored(
        {"text": Value("string"), "label": ClassLabel(names=["a", "z"])},
        {"text": ["x", "y"], "label": [0, 1]},
    )
    hidden = stored({"text": Value("string")}, {"text": ["x", "y"]})
    opened = open_dataset(str(saved(tmp_path / "a", test=hidden, validation=other, train=train)))
    assert opened.task.to_dict()["classes"] == ["z", "a"]
    assert opened.labels("train").tolist() == [0, 1]
    assert opened.labels("validation").tolist() == [1, 0]


def test_lists_of_classes_are_tags(tmp_path: Path) -> None:
    """Lists of 0 and 1 as long as there are classes would else be a 1 or 0 for each class."""
    features = {"text": Value("string"), "label": datasets.List(ClassLabel(names=["sad", "funny"]))}
    given = stored(features, {"text": ["a", "b", "c", "d"], "label": [[0], [0, 1], [], [1, 0]]})
    dataset = open_dataset(str(saved(tmp_path / "a", train=given, validation=given, test=given)))
    assert dataset.kind == "multilabel"
    assert dataset.task.to_dict()["classes"] == ["sad", "funny"]
    assert dataset.labels("train").tolist() == [[1, 0], [1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("number", [3, -2])
def test_number_of_no_class(tmp_path: Path, number: int) -> None:
    given = stored({"label": ClassLabel(names=["a", "b", "c"])}, {"label": [0, number]})
    (part,) = read(saved(tmp_path / "a", train=given)).parts["train"]
    with pytest.raises(UserError, match=f"train row 1: column 'label' is {number}, and its 3 classes are"):
        list(part.batches(["label"], 9))


def test_kinds_of_columns_with_any_name(tmp_path: Path) -> None:
    """Pictures and sounds are not decoded, so that these may be neither."""
    features = {"clip": datasets.Audio(), "photo": datasets.Image(), "text": Value("string")}
    file = {"bytes": b"neither", "path": None}
    values = {"clip": [file] * 2, "photo": [file] * 2, "text": ["a", "b"], "label": ["c", "d"]}
    given = stored({**features, "label": Value("string")}, values)
    opened = open_dataset(str(saved(tmp_path / "a", train=given, validation=given, test=given)))
    kinds = {modality.column: modality.kind for modality in opened.modalities.values()}
    assert kinds == {"clip": "audio", "photo": "image", "text": "text"}


def test_pictures_that_are_files(tmp_path: Path) -> None:
    """The library puts their bytes into its own files."""
    path = str(put(tmp_path / "1.png", png(1)))
    pictures = [{"bytes": None, "path": path}, {"bytes": png(2), "path": "gone.png"}, None]
    features = {"image": datasets.Image(), "label": Value("string")}
    given = stored(features, {"image": pictures, "label": ["a", "b", "a"]})
    opened = open_dataset(str(saved(tmp_path / "a", train=given, validation=given, test=given)))
    (batch,) = opened.batches("train", ["image"])
    assert opened.contents("image", batch) == [png(1), png(2), None]


def test_vectors_and_sequences_of_them(tmp_path: Path) -> None:
    features = datasets.Features(features=datasets.Array2D((2, 2), "float32"), label=Value("string"))
    values = {"features": [[[1, 2], [3, 4]]] * 2, "label": ["a", "b"]}
    given = datasets.Dataset.from_dict(values, features=features)
    opened = open_dataset(str(saved(tmp_path / "a", train=given, validation=given, test=given)))
    (batch,) = opened.batches("train", ["features"])
    assert batch["features"].to_pylist() == values["features"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dataset_dict.json", b"{", "dataset_dict.json does not list the splits"),
        ("dataset_dict.json", b'{"splits": ["a"]}', "has the splits a, none of which is train"),
        ("dataset_dict.json", b'{"splits": ["train", "dev"]}', "dev cannot be opened"),
        ("train/state.json", b"[]", "train cannot be opened"),
        ("train/dataset_info.json", b"", "train cannot be opened"),
        ("train/data-00000-of-00001.arrow", None, "train cannot be opened"),
        ("train/data-00000-of-00001.arrow", b"", "train cannot be opened"),
        ("train/data-00000-of-00001.arrow", b"ARROW1" * 30, "train cannot be opened"),
    ],
)
def test_damaged(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = saved(tmp_path / "a", train=None, test=None)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(folder)


def test_cut_files(tmp_path: Path) -> None:
    file = saved(tmp_path / "a", train=None) / "train" / "data-00000-of-00001.arrow"
    whole = file.read_bytes()

    def rows_of_cut(size: int) -> None:
        file.write_bytes(whole[:size])
        (part,) = read(tmp_path / "a").parts["train"]
        list(part.batches(["text", "label"], 4))

    rows_of_cut(len(whole))
    for size in range(0, len(whole) - 8, 97):  # the last 8 bytes say that nothing follows
        with pytest.raises(UserError):
            rows_of_cut(size)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "a", train=None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the library datasets: pip install 'paretofuse\[hf\]'"):
        read(folder)
