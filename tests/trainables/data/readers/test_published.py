"""What holds for the image and text datasets of the papers in each layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainables.data import SPLITS, open_dataset
from trainables.data.readers import Found, read_path
from trainables.data.readers.finding import readers_of
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts import published
from trainables.testing.layouts.published import EACH, LAYOUTS, jpeg, write

#: A list in JSONL of each dataset.
LISTS = {
    "mmimdb": published.mmimdb_lists,
    "food101": published.food101_lists,
    "snli_ve": lambda: published.snli_ve(name="{}.jsonl"),
}


def found(name: str, folder: Path, files: Mapping[str, Any], **settings: Any) -> Found:
    """Write a dataset and read it."""
    return read_path(f"{name}:{write(folder, files)}", ReadingSettings(**settings))


def rows(found: Found, split: str) -> list[dict[str, Any]]:
    """Return the rows of a split."""
    return [
        row
        for part in found.parts[split]
        for batch in part.batches(part.schema.names, 2)
        for row in batch.to_pylist()
    ]


def noted(found: Found) -> str:
    """Return all notes."""
    return "; ".join(found.notes)


@pytest.mark.parametrize(("name", "layout"), EACH)
def test_each_layout_has_its_rows_with_their_pictures(tmp_path: Path, name: str, layout: str) -> None:
    read = found(name, tmp_path, LAYOUTS[name][layout]())
    number = 0
    sizes = (
        {"train": 6, "validation": 3, "test": 3} if "validation" in read.parts else {"train": 9, "test": 3}
    )
    text = json.loads(read.metadata["paretofuse.modalities"])["text"]
    for split, size in sizes.items():
        read_rows = rows(read, split)
        assert len(read_rows) == sum(part.count() for part in read.parts[split]) == size
        for row in sorted(read_rows, key=lambda row: int("".join(filter(str.isdigit, row[text])))):
            assert str(number) in row[text]
            assert (read.folder / row["image"]).read_bytes() == jpeg(number)
            number += 1
    assert "other numbers of rows than published: train has" in noted(read)
    assert len(read.notes) == 1


@pytest.mark.parametrize(("name", "layout"), EACH)
def test_an_opened_dataset_has_all_splits_and_the_pictures(tmp_path: Path, name: str, layout: str) -> None:
    dataset = open_dataset(f"{name}:{write(tmp_path, LAYOUTS[name][layout]())}")
    assert set(dataset.modalities) == {"text", "image"}
    pictures = []
    for split in SPLITS:
        for batch in dataset.batches(split, ["image"]):
            pictures += dataset.contents("image", batch)
        assert len(dataset.labels(split)) == dataset.count(split) > 0
    assert sorted(pictures) == sorted(map(jpeg, range(12)))
    assert {*pictures[-3:]} == {*map(jpeg, (9, 10, 11))}


#: Layouts that are like nothing else.
UNMISTAKABLE = {
    "mmimdb": ("published", "labels and images"),
    "food101": ("kaggle", "texts", "missing_aware_prompts"),
    "snli_ve": ("generated", "other key"),
}


@pytest.mark.parametrize(("name", "layout"), EACH)
def test_layouts_that_are_like_nothing_else_need_no_name(tmp_path: Path, name: str, layout: str) -> None:
    folder = write(tmp_path, LAYOUTS[name][layout]())
    known = layout in UNMISTAKABLE[name]
    assert ([reader.name for reader in readers_of(folder)] == [name]) is known
    if known:
        assert read_path(str(folder), ReadingSettings()).format == name


@pytest.mark.parametrize("name", LISTS)
def test_lists_with_blank_lines_and_byte_order_marks(tmp_path: Path, name: str) -> None:
    files = LISTS[name]()
    lines = [json.dumps(line) for line in files["train.jsonl"]]
    files["train.jsonl"] = "\ufeff" + "\r\n\r\n".join(lines) + "\n  \n"
    read = found(name, tmp_path, files)
    assert rows(read, "train") == rows(found(name, tmp_path / "plain", LISTS[name]()), "train")
    assert read.parts["train"][0].word(2) == "train.jsonl line 5"


DAMAGED: dict[str, tuple[bytes, str]] = {
    "cut": (b'{"text": "a', "1 without JSON"),
    "bytes": (b'{"text": "\xff"}', "1 not in UTF-8"),
    "list": (b"[1, 2]", "1 with a list and no object"),
    "deep": (b"[" * 100_000, "1 without JSON"),
    "empty": (b"{}", "1 without "),
    "types": (
        b'{"text": 3, "sentence2": 3, "img": "a.jpg", "label": ["neutral"], "gold_label": "neutral"}',
        "1 with a",
    ),
    "half": (
        b'{"text": "\\ud800", "sentence2": "\\ud800", "img": "a.jpg", "label": [], "gold_label": "neutral"}',
        "1 with half a character in",
    ),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_lines_are_counted_or_left_out(tmp_path: Path, name: str, damage: str) -> None:
    files = LISTS[name]()
    line, reason = DAMAGED[damage]
    files["train.jsonl"] = (
        line + b"\n" + b"".join(json.dumps(x).encode() + b"\n" for x in files["train.jsonl"])
    )
    with pytest.raises(UserError) as error:
        found(name, tmp_path, files)
    assert f"rows cannot be read: 1, of them {reason}" in str(error.value)
    assert "(train.jsonl line 1); --bad-rows skip" in str(error.value)
    read = found(name, tmp_path, files, bad_rows="skip")
    assert len(rows(read, "train")) == 6
    assert f"left out: {reason}" in noted(read)


@pytest.mark.parametrize("name", LISTS)
def test_both_names_of_validation_may_be_there_if_they_agree(tmp_path: Path, name: str) -> None:
    files = LISTS[name]()
    both = {**files, "val.jsonl": files["dev.jsonl"]}
    assert len(rows(found(name, tmp_path / "same", both), "validation")) == 3
    with pytest.raises(UserError, match=r"dev\.jsonl and val\.jsonl differ.*validation split; remove one"):
        found(name, tmp_path / "others", {**files, "val.jsonl": files["test.jsonl"]})


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("mmimdb", {"a.txt": ""}, r"has no train\.jsonl, split\.json or multimodal_imdb\.hdf5"),
        ("mmimdb", {"split.json": {}}, "has no dataset or labels"),
        ("mmimdb", {"split.json": {}, "labels/a": ""}, "has no images"),
        ("mmimdb", {"split.json": {}, "dataset/a": ""}, r"split\.json has no 'train'"),
        (
            "mmimdb",
            {"split.json": {"train": [], "x": []}, "dataset/a": ""},
            "split 'x'; known: train, dev, val",
        ),
        (
            "mmimdb",
            {"split.json": {"train": 3}, "dataset/a": ""},
            "has the train split as a number; expected a list",
        ),
        (
            "mmimdb",
            {"split.json": {"train": [], "dev": [], "val": []}, "dataset/a": ""},
            "has the validation split twice",
        ),
        ("mmimdb", {"split.json": [], "dataset/a": ""}, r"split\.json has a list; expected an object"),
        ("mmimdb", {"split.json": "{", "dataset/a": ""}, r"split\.json is not JSON"),
        ("mmimdb", {"test.jsonl": ""}, r"has test\.jsonl, but no train\.jsonl"),
        (
            "mmimdb",
            {**published.mmimdb_lists(), "labels.txt": "a\nb\na "},
            r"labels\.txt has the class 'a' twice",
        ),
        (
            "mmimdb",
            {**published.mmimdb_lists(), "labels.txt": b"\xff\xfe"},
            r"labels\.txt is no text in UTF-8",
        ),
        ("mmimdb", {"multimodal_imdb.hdf5": "no"}, "is not an HDF5 file that can be read"),
        (
            "food101",
            {"a": ""},
            r"train\.jsonl, split\.json, train\.json, texts_txt or texts/train_titles\.csv",
        ),
        ("food101", {"split.json": {}}, r"has no text\.json"),
        ("food101", {"split.json": {}, "text.json": {}}, r"split\.json has no 'train'"),
        ("food101", {"split.json": {"train": {}}, "text.json": {}}, "has the train split as an object"),
        ("food101", {"texts_txt/a": ""}, "has texts_txt, but no images/train"),
        ("food101", {"train.json": {}}, r"train\.json has an object; expected a list"),
        (
            "food101",
            {**published.food101_split_json(), "class_idx.json": {"a": 1}},
            "number its classes from 0",
        ),
        ("snli_ve", {"a": ""}, r"has no snli_ve_train\.jsonl or train\.jsonl"),
        (
            "snli_ve",
            published.snli_ve(pictures="elsewhere"),
            "has no Flickr30K/flickr30k_images, .* or images",
        ),
    ],
)
def test_errors_name_the_file(tmp_path: Path, name: str, files: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(name, tmp_path, files)


@pytest.mark.parametrize("name", LISTS)
def test_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(UserError, match=r"train\.jsonl is a file; name"):
        read_path(f"{name}:{tmp_path / 'train.jsonl'}", ReadingSettings())
