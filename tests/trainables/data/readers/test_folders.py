"""Folders of pictures and sounds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data import open_dataset
from trainables.data.readers import ALL, Found, read_path
from trainables.data.readers.finding import readers_of
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.formats import png, put, wav, write_csv


def pictures(folder: Path, *paths: str) -> Path:
    """Write a picture at each path."""
    for number, path in enumerate(paths):
        put(folder / path, png(number))
    return folder


def read(path: Path, columns: str | None = None) -> Found:
    return read_path(str(path), ReadingSettings(columns=columns))


def rows_of(found: Found) -> Mapping[str, list[dict[str, Any]]]:
    return {
        split: [
            row for part in parts for batch in part.batches(part.schema.names, 9) for row in batch.to_pylist()
        ]
        for split, parts in found.parts.items()
    }


def test_classes_and_splits_are_folders(tmp_path: Path) -> None:
    pictures(
        tmp_path, "train/cat/1.png", "train/dog/2.JPG", "val/cat/3.png", "test/dog/4.WebP", "test/cat/5.png"
    )
    found = read(tmp_path)
    assert rows_of(found) == {
        "train": [{"image": "train/cat/1.png", "label": "cat"}, {"image": "train/dog/2.JPG", "label": "dog"}],
        "validation": [{"image": "val/cat/3.png", "label": "cat"}],
        "test": [{"image": "test/cat/5.png", "label": "cat"}, {"image": "test/dog/4.WebP", "label": "dog"}],
    }
    assert found.notes == ("labels are the names of the folders, cat, dog",)


def test_sounds(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        for label in ("yes", "no"):
            put(tmp_path / split / label / "1.wav", wav(1))
    dataset = open_dataset(str(tmp_path))
    assert {name: where.kind for name, where in dataset.modalities.items()} == {"audio": "audio"}
    assert dataset.task.to_dict()["classes"] == ["no", "yes"]


def test_classes_without_splits(tmp_path: Path) -> None:
    """Folders that hold all files are passed over, such as that of an archive."""
    pictures(tmp_path, "pets/all/cat/1.png", "pets/all/dog/2.png")
    assert rows_of(read(tmp_path)) == {
        ALL: [
            {"image": "pets/all/cat/1.png", "label": "cat"},
            {"image": "pets/all/dog/2.png", "label": "dog"},
        ]
    }


def test_splits_in_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path, "pets/train/cat/1.png", "pets/train/dog/2.png", "pets/test/dog/3.png")
    found = rows_of(read(tmp_path))
    assert [row["label"] for row in found["train"]] == ["cat", "dog"]
    assert [row["label"] for row in found["test"]] == ["dog"]


def test_only_a_train_folder(tmp_path: Path) -> None:
    found = rows_of(read(pictures(tmp_path, "train/cat/1.png", "train/dog/2.png")))
    assert [row["label"] for row in found["train"]] == ["cat", "dog"]


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/2.png")
    for path in (
        ".DS_Store",
        "cat/.DS_Store",
        "cat/._1.png",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        ".git/3.png",
    ):
        put(tmp_path / path, "x")
    put(tmp_path / "__MACOSX" / "cat" / "1.png", "x")
    found = read(tmp_path)
    assert len(rows_of(found)[ALL]) == 2
    assert found.notes == ("labels are the names of the folders, cat, dog",)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/1.png", "more/3.png", "cover.png")
    put(tmp_path / "train/cat/1.xml", "x")
    (tmp_path / "train" / "cow").mkdir()
    found = read(tmp_path)
    assert {split: len(rows) for split, rows in rows_of(found).items()} == {"train": 2, "test": 1}
    assert found.notes == (
        "left out: files of other kinds (1 .xml)",
        "nothing of the kind image in train/cow",
        "labels are the names of the folders, cat, dog",
        "left out: 2 files in no folder of a split",
    )


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["cat/a/1.png", "dog/b/2.png"], "which folders are the classes.*cat/a, dog/b"),
        (["cat/1.png", "dog/1.png", "3.png"], "which folders are the classes.*cat, dog, no folder"),
        (["val/1.png", "test/1.png"], "has the folders test, val, and none called train"),
        (
            ["train/1.png", "val/1.png", "dev/1.png"],
            r"two of its folders \(dev, train, val\) are of one split",
        ),
    ],
)
def test_folders_that_could_mean_two_things_are_refused(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(pictures(tmp_path, *paths))


@pytest.mark.parametrize("folder", ["test", "test/unknown", "test/test"])
def test_test_split_without_classes(tmp_path: Path, folder: str) -> None:
    """It is searched with, and not scored."""
    for split in ("train", "val"):
        pictures(tmp_path / split, "cat/1.png", "dog/2.png")
    pictures(tmp_path / folder, "1.png", "2.png")
    dataset = open_dataset(str(tmp_path))
    assert dataset.task.to_dict()["classes"] == ["cat", "dog"]
    assert "test has no labels, as it has no folders of classes" in dataset.notes
    pictures(tmp_path, "test/cat/3.png")
    if folder == "test":
        with pytest.raises(UserError, match=r"which folders are the classes.*cat, dog, no folder"):
            read(tmp_path)


def test_one_folder_has_no_labels(tmp_path: Path) -> None:
    pictures(tmp_path, "train/all/1.png", "val/all/2.png", "test/all/3.png")
    with pytest.raises(UserError, match="has no column 'label'"):
        open_dataset(str(tmp_path))


def test_links_are_followed_once(tmp_path: Path) -> None:
    store = pictures(tmp_path / "store", "1.png", "2.png")
    for label in ("cat", "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
    (tmp_path / "set" / "cat" / "1.png").symlink_to(store / "1.png")
    (tmp_path / "set" / "cow").symlink_to(store)
    (tmp_path / "set" / "dog" / "gone.png").symlink_to(store / "gone.png")
    (tmp_path / "set" / "dog" / "again").symlink_to(tmp_path / "set")
    paths = [row["image"] for row in rows_of(read(tmp_path / "set"))[ALL]]
    assert paths == ["cat/1.png", "cow/1.png", "cow/2.png", "dog/gone.png"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png")
    with open(os.path.join(os.fsencode(tmp_path / "cat"), b"caf\xe9.png"), "wb"):
        pass
    with pytest.raises(UserError, match=r"the name of cat/caf\\udce9\.png is no UTF-8"):
        read(tmp_path)


METADATA = {"file_name": ["1.png", "2.png"], "text": ["one", "two"], "label": ["a", "b"]}


def write_metadata(path: Path, columns: Mapping[str, list[Any]]) -> None:
    """Write a table about files in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.table(dict(columns)).to_pylist()
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(columns)), path)
    elif path.suffix == ".jsonl":
        put(path, "\n".join(map(json.dumps, rows)))
    else:
        write_csv(path, [*columns], [[*row.values()] for row in rows])


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("place", ["train", "train/pictures"])
def test_metadata_in_each_split(tmp_path: Path, end: str, place: str) -> None:
    """Paths are relative to the table's folder."""
    for split in ("train", "test"):
        folder = tmp_path / place.replace("train", split)
        pictures(folder, "1.png", "2.png")
        write_metadata(folder / f"metadata.{end}", METADATA)
    assert [reader.name for reader in readers_of(tmp_path)] == ["imagefolder"]
    found = read(tmp_path)
    assert {*found.parts} == {"train", "test"}
    assert rows_of(found)["train"] == [
        {"image": f"{place}/1.png", "text": "one", "label": "a"},
        {"image": f"{place}/2.png", "text": "two", "label": "b"},
    ]
    (part,) = found.parts["train"]
    assert str(part.word(1)).startswith(f"{place}/metadata.{end} ")


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_metadata_of_all_splits(tmp_path: Path, end: str) -> None:
    pictures(tmp_path, "train/1.png", "train/2.png", "valid/3.png")
    names = ["valid/3.png", "train/1.png", "./train/2.png"]
    write_metadata(
        tmp_path / f"metadata.{end}", {"file_name": names, "text": ["c", "a", "b"], "label": ["x"] * 3}
    )
    found = read(tmp_path)
    assert {split: [row["text"] for row in rows] for split, rows in rows_of(found).items()} == {
        "validation": ["c"],
        "train": ["a", "b"],
    }
    (part,) = found.parts["train"]
    assert [part.word(0), part.word(1)][-1 if end == "csv" else 0] is not None
    assert found.notes == ()


def test_metadata_say_the_split_of_rows(tmp_path: Path) -> None:
    pictures(tmp_path, "images/1.png", "images/2.png")
    columns = {"file_name": ["images/1.png", "images/2.png"], "label": ["a", "b"], "split": ["train", "test"]}
    write_metadata(tmp_path / "metadata.csv", columns)
    assert [row["image"] for row in rows_of(read(tmp_path))["test"]] == ["images/2.png"]


def test_texts_from_metadata_and_labels_from_folders(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/2.png")
    write_metadata(
        tmp_path / "metadata.csv", {"file_name": ["cat/1.png", "dog/2.png"], "text": ["one", "two"]}
    )
    found = read(tmp_path)
    assert [row["label"] for row in rows_of(found)[ALL]] == ["cat", "dog"]
    assert found.notes == ("labels are the names of the folders, cat, dog",)
    write_metadata(
        tmp_path / "metadata.csv",
        {"file_name": ["cat/1.png", "dog/2.png"], "text": ["one", "two"], "mood": ["a", "b"]},
    )
    assert "label" not in rows_of(read(tmp_path))[ALL][0], "another column may have them"


def test_files_and_rows_that_lack_each_other(tmp_path: Path) -> None:
    """A file without a row is said. A row without its file cannot be read, one without a name lacks it."""
    pictures(tmp_path, "1.png", "2.png", "sub/3.png")
    columns = {"file_name": ["1.png", "gone.png", ""], "text": ["a", "b", "c"], "label": ["x", "y", "x"]}
    write_metadata(tmp_path / "metadata.csv", columns)
    found = read(tmp_path)
    assert [row["image"] for row in rows_of(found)[ALL]] == ["1.png", "gone.png", None]
    assert found.notes == ("left out: 2 files without a row in metadata.csv (2.png, sub/3.png)",)


def test_a_split_without_metadata_is_refused(tmp_path: Path) -> None:
    """It would else be left out, and another validation split be made."""
    pictures(tmp_path, "train/1.png", "train/2.png", "val/1.png", "other/1.png")
    write_metadata(tmp_path / "train" / "metadata.csv", METADATA)
    with pytest.raises(UserError, match=r"there is train/metadata\.csv, but no metadata for val/1\.png"):
        read(tmp_path)
    (tmp_path / "val" / "1.png").unlink()
    assert "other/1.png" in read(tmp_path).notes[0]


def test_several_files_in_a_row(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png")
    put(tmp_path / "1.wav", wav(1))
    columns = {
        "before_file_name": ["1.png"],
        "after_file_name": ["2.png"],
        "sound_file_name": ["1.wav"],
        "text": ["a"],
    }
    write_metadata(tmp_path / "metadata.csv", columns)
    assert rows_of(read(tmp_path))[ALL] == [
        {"before": "1.png", "after": "2.png", "sound": "1.wav", "text": "a"}
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"name": ["1.png"], "text": ["a"]},
            r"metadata\.parquet has no column 'file_name'.*its columns: name, text",
        ),
        ({"file_name": [1], "text": ["a"]}, "column 'file_name' has 1; expected names of files"),
        ({"file_name": ["1.png"], "image": ["a"]}, "has two columns for 'image'"),
    ],
)
def test_metadata_that_are_refused(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    write_metadata(pictures(tmp_path, "1.png") / "metadata.parquet", columns)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("end", ["csv", "tsv", "jsonl"])
def test_one_table_beside_pictures_is_the_dataset(tmp_path: Path, end: str) -> None:
    pictures(tmp_path, "images/cat/1.png", "images/dog/2.png")
    rows = [{"image": "images/cat/1.png", "text": "a"}, {"image": "images/dog/2.png", "text": "b"}]
    if end == "jsonl":
        put(tmp_path / "captions.jsonl", "\n".join(map(json.dumps, rows)))
    else:
        between = "," if end == "csv" else "\t"
        put(
            tmp_path / f"captions.{end}",
            "\n".join(between.join(row) for row in [[*rows[0]], *(r.values() for r in rows)]),
        )
    assert [reader.name for reader in readers_of(tmp_path)] == ["captioned"]
    assert rows_of(read(tmp_path)) == {ALL: rows}
    put(tmp_path / "other.csv", "a,b\n1,2\n")
    with pytest.raises(UserError, match=rf"has 2 tables \(captions\.{end}, other\.csv\); name one file"):
        read(tmp_path)
    named = rows_of(read_path(f"imagefolder:{tmp_path}", ReadingSettings()))
    assert [row["label"] for row in named[ALL]] == ["cat", "dog"]


def test_json_beside_folders_of_classes_is_about_them(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/2.png")
    put(tmp_path / "names.json", '{"cat": "Felis catus"}')
    assert [row["label"] for row in rows_of(read(tmp_path))[ALL]] == ["cat", "dog"]


def test_a_folder_without_files_of_the_kind(tmp_path: Path) -> None:
    put(tmp_path / "readme.txt", "x")
    with pytest.raises(UserError, match="has no files of the kind audio"):
        read_path(f"audiofolder:{tmp_path}", ReadingSettings())
    with pytest.raises(UserError, match="is no folder"):
        read_path(f"imagefolder:{tmp_path / 'readme.txt'}", ReadingSettings())
