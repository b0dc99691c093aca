"""Datasets of any format as Parquet files: with the same content, or not at all."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import SPLITS, Dataset, convert, open_dataset, prepare
from trainables.errors import UserError
from trainables.task_settings import TaskSettings
from trainables.towers import InputSizes, resolve_encoder

LABELS = {
    "names": ["red", "blue"],
    "numbers": ["100200", "7"],
    "fractions": ["0.5", "2"],
    "lists": ["['a']", "[]"],
}


def _table(folder: Path, labels: list[str], *, lost: bool = False) -> Path:
    """Write a CSV file whose pictures are files beside it, one of which may be lost."""
    folder.mkdir()
    with (folder / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["file", "caption", "genre"])
        for row in range(20):
            writer.writerow(
                [f"{row}.png" if row != 3 else "", f"box {row}" if row != 4 else "", labels[row % 2]]
            )
            if not (lost and row == 5):
                (folder / f"{row}.png").write_bytes(png((row, 0, 0), (8, 8)))
    return folder / "mine.csv"


def _content(dataset: Dataset) -> list[object]:
    found: list[object] = [dataset.kind, dataset.task.to_dict(), dataset.modalities]
    for split in SPLITS:
        found.append(dataset.labels(split).tolist())
        for batch in dataset.batches(split, [where.column for where in dataset.modalities.values()]):
            found += [dataset.contents(modality, batch) for modality in dataset.modalities]
    return found


@pytest.mark.parametrize("labels", LABELS)
def test_the_content_stays(tmp_path: Path, labels: str) -> None:
    dataset = open_dataset(str(_table(tmp_path / "d", LABELS[labels])))
    counts = convert(dataset, tmp_path / "out")
    assert counts == {split: dataset.count(split) for split in SPLITS}
    assert sorted(os.listdir(tmp_path)) == ["d", "out"]
    assert _content(open_dataset(str(tmp_path / "out"))) == _content(dataset)


def test_what_is_prepared_stays(
    tmp_path: Path, tiny_encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    encoders = {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    dataset = open_dataset(str(_table(tmp_path / "d", LABELS["names"])))
    convert(dataset, tmp_path / "out")
    first, second = (
        prepare(each, encoders, InputSizes(text_length=6, image_size=8)).folder
        for each in (dataset, open_dataset(str(tmp_path / "out")))
    )
    names = {path.name for path in first.iterdir() if path.suffix == ".arrow"}
    assert names == {path.name for path in second.iterdir() if path.suffix == ".arrow"}
    assert {name: (first / name).read_bytes() for name in names} == {
        name: (second / name).read_bytes() for name in names
    }


def test_features_and_classes_stay(tmp_path: Path) -> None:
    """Among them indices of classes, and a test split without labels."""
    content = columns(image=None, features=[[[1.0, 2.0]], None, [[3.0, 4.0], [5.0, 6.0]]], label=[1, 0, 1])
    metadata = {"paretofuse.classes": json.dumps(["no", "yes"])}
    hidden = {name: values for name, values in content.items() if name != "label"}
    write_dataset(tmp_path / "d", metadata, train=content, validation=content, test=hidden)
    dataset = open_dataset(str(tmp_path / "d"))
    convert(dataset, tmp_path / "out")
    again = open_dataset(str(tmp_path / "out"))
    assert again.labeled == dataset.labeled == ("train", "validation")
    assert again.task.to_dict() == dataset.task.to_dict()
    (cells, others) = (
        [
            content
            for batch in each.batches("train", ["features"])
            for content in each.contents("features", batch)
        ]
        for each in (again, dataset)
    )
    assert [cell if cell is None else cell.tolist() for cell in cells] == [  # type: ignore[union-attr]
        cell if cell is None else cell.tolist()  # type: ignore[union-attr]
        for cell in others
    ]


def test_pairs_have_no_labels(tmp_path: Path) -> None:
    settings = TaskSettings(task="retrieval", query="text")
    convert(open_dataset(str(_table(tmp_path / "d", LABELS["names"])), settings), tmp_path / "out")
    again = open_dataset(str(tmp_path / "out"))
    assert (again.kind, again.task.query) == ("retrieval", again.task.query)
    assert again.task.query is not None
    assert pq.read_schema(tmp_path / "out" / "train.parquet").names == ["caption", "file"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    dataset = open_dataset(str(_table(tmp_path / "d", LABELS["names"], lost=True)))
    with pytest.raises(UserError, match=r"1 of 20 rows cannot be read: 1 picture.*: no such file.* 5\.png"):
        convert(dataset, tmp_path / "out")
    assert os.listdir(tmp_path) == ["d"]
    assert sum(convert(dataset, tmp_path / "some", "skip").values()) == 19
    assert sum(convert(dataset, tmp_path / "all", "missing").values()) == 20
    cells = [
        row for split in SPLITS for row in pq.read_table(tmp_path / "all" / f"{split}.parquet").to_pylist()
    ]
    assert {row["caption"] for row in cells if row["file"] is None} == {"box 3", "box 5"}


def test_files_that_are_no_pictures_are_named_by_their_names(tmp_path: Path) -> None:
    table = _table(tmp_path / "d", LABELS["names"])
    (lost,) = tmp_path.glob("d/**/5.png")
    for content, reason in (
        (lost.read_bytes()[:50], "a PNG picture that is cut off"),
        (b"", "empty, 0 bytes"),
    ):
        lost.write_bytes(content)
        with pytest.raises(UserError, match=rf"1 of 20 rows cannot be read: 1 picture: {reason} .*5\.png"):
            convert(open_dataset(str(table)), tmp_path / "out")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    dataset = open_dataset(str(write_dataset(tmp_path / "d")))
    with pytest.raises(UserError, match="is there already; name a new folder"):
        convert(dataset, tmp_path / "d")
    (tmp_path / "empty").mkdir()
    convert(dataset, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dataset = open_dataset(str(write_dataset(tmp_path / "d")))
    with pytest.raises(UserError, match="a file is in the way"):
        convert(dataset, tmp_path / "file" / "out")


def test_tags_of_a_text_stay(tmp_path: Path) -> None:
    settings = TaskSettings(tag_delimiter="|")
    dataset = open_dataset(str(_table(tmp_path / "d", ["a|b", "b"])), settings)
    convert(dataset, tmp_path / "out")
    again = open_dataset(str(tmp_path / "out"))
    assert again.kind == dataset.kind == "multilabel"
    assert again.labels("train").tolist() == dataset.labels("train").tolist()
