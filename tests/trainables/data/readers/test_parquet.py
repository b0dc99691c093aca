"""Parquet files: which are read as which split, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from trainables.data import open_dataset
from trainables.data.readers import ALL, READERS, Found, Part
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings


def table(text: str = "a", n: int = 3, **columns: Any) -> pa.Table:
    return pa.table({"text": [text] * n, "label": ["x", "y", "x"][:n], **columns})


def write(folder: Path, *names: str) -> Path:
    """Write files whose texts are their names."""
    for name in names:
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(name), path)
    return folder


def found(path: Path) -> Found:
    return READERS["parquet"].read("mine", path, ReadingSettings())


def files(path: Path) -> dict[str, list[str]]:
    """Return the texts of each split's parts."""
    return {split: [_first(part) for part in parts] for split, parts in found(path).parts.items()}


def _first(part: Part) -> str:
    text: str = next(part.batches(["text"], 1))["text"][0].as_py()
    return text


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        found(path)
    return str(error.value)


@pytest.mark.parametrize("word", ["validation", "val", "valid", "dev", "eval", "Val"])
def test_names_of_the_validation_split(tmp_path: Path, word: str) -> None:
    write(tmp_path, "train", word, "test", "._train")
    assert files(tmp_path) == {"train": ["train"], "validation": [word], "test": ["test"]}


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    shards = [f"train-{i}" for i in range(11)]
    write(tmp_path, *shards, "test_00000", "test_00001", "val-00000-of-00001-0123456789abcdef")
    assert files(tmp_path) == {
        "train": shards,
        "validation": ["val-00000-of-00001-0123456789abcdef"],
        "test": ["test_00000", "test_00001"],
    }


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["train", "train-00000", "train-00001"], "rows would be read twice"),
        (["train-0", "train-00000"], "rows would be read twice"),
        (["train-00000-of-00002"], "1 of 2 shards; missing: number 1"),
        (["train-00000-of-00003", "train-00002-of-00003"], "2 of 3 shards; missing: number 1"),
        (["train-00000", "train-00002"], "missing: number 1"),
        (["train-1", "val-0", "test-0", "test-1"], "missing: number 0 of train"),
        (["train-00000-of-00002", "train-00001-of-00003"], "shards of different numbers of files"),
        (["train", "val", "validation"], "both of the validation split"),
        (["train", "validation", "validation-old"], "validation-old.parquet begins like a split's file"),
        (["train", "test_v2"], "test_v2.parquet begins like a split's file"),
        (["train", "test/0000"], "has train.parquet and the folder test; remove one"),
        (["one", "two"], "has one.parquet, two.parquet; name one file"),
    ],
)
def test_files_that_are_in_doubt_are_refused(tmp_path: Path, names: list[str], reason: str) -> None:
    assert reason in refusal(write(tmp_path, *names))


def test_shards_may_be_numbered_from_1(tmp_path: Path) -> None:
    write(tmp_path, "train-1", "train-2", "val-1", "test")
    assert files(tmp_path) == {"train": ["train-1", "train-2"], "validation": ["val-1"], "test": ["test"]}


def test_a_folder_that_is_called_like_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", "val", "test")
    (tmp_path / "train-00001.parquet").mkdir()
    assert "train-00001.parquet is a folder; expected a file" in refusal(tmp_path)


def test_folders_of_splits(tmp_path: Path) -> None:
    spark = "test/part-00000-3f2c1b7e-0000-4000-8000-1234567890ab-c000.snappy"
    write(tmp_path / "a", "train/0000", "train/0001", "val/0000", spark)
    assert files(tmp_path / "a") == {
        "train": ["train/0000", "train/0001"],
        "validation": ["val/0000"],
        "test": [spark],
    }


def test_folders_that_are_called_like_files(tmp_path: Path) -> None:
    write(tmp_path / "a", "train.parquet/part-00000", "test.parquet/part-00000")
    assert files(tmp_path / "a") == {
        "train": ["train.parquet/part-00000"],
        "test": ["test.parquet/part-00000"],
    }


def test_the_folder_of_a_hub(tmp_path: Path) -> None:
    names = [f"data/{split}-00000-of-00001" for split in ("train", "validation", "test")]
    write(tmp_path, *names)
    (tmp_path / "README.md").write_text("# mine")
    assert READERS["parquet"].recognises(tmp_path)
    assert open_dataset(str(tmp_path)).count("validation") == 3


@pytest.mark.parametrize("values", [[0, 1, 2], ["a", "b", "c"], [["train"]] * 3, [None, "train", "val"]])
def test_a_column_split_may_be_about_something_else_where_files_have_names(
    tmp_path: Path, values: list[Any]
) -> None:
    write(tmp_path, "train", "val", "test")
    pq.write_table(table("train", split=values), tmp_path / "train.parquet")
    assert files(tmp_path) == {"train": ["train"], "validation": ["val"], "test": ["test"]}


def test_all_files_of_one_name_say_the_split_or_none_does(tmp_path: Path) -> None:
    write(tmp_path, "mine-0", "mine-1")
    pq.write_table(table(split=["train", "val", "test"]), tmp_path / "mine-1.parquet")
    assert "mine-0.parquet has no column that says the split" in refusal(tmp_path)


def test_files_of_no_split_are_named(tmp_path: Path) -> None:
    write(tmp_path, "train", "val", "test", "vectors", "data/more")
    assert found(tmp_path).notes == ("of no split and not read: vectors.parquet",)
    write(tmp_path / "hub", "vectors", "data/train", "data/val", "data/test")
    assert files(tmp_path / "hub")["train"] == ["data/train"]


def test_a_single_file(tmp_path: Path) -> None:
    assert files(write(tmp_path, "mine") / "mine.parquet") == {ALL: ["mine"]}
    assert files(tmp_path) == {ALL: ["mine"]}
    splits = ["train", "dev", "test"]
    pq.write_table(table(split=pa.array(splits).dictionary_encode()), tmp_path / "mine.parquet")
    assert {split: part.count() for split, (part,) in found(tmp_path / "mine.parquet").parts.items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_arrow_files(tmp_path: Path, compression: str) -> None:
    content = table(split=["train", "dev", "test"])
    pyarrow.feather.write_feather(content, tmp_path / "mine.feather", compression=compression)
    with pa.ipc.new_stream(str(tmp_path / "mine.arrow"), content.schema) as writer:
        writer.write_table(content)
    for name in ("mine.feather", "mine.arrow"):
        dataset = open_dataset(str(tmp_path / name))
        assert dataset.count("validation") == 1
    (tmp_path / "mine.arrow").write_bytes((tmp_path / "mine.arrow").read_bytes()[:-200])
    with pytest.raises(UserError, match=r"mine\.arrow is not an Arrow file that can be read"):
        open_dataset(str(tmp_path / "mine.arrow"))
    (tmp_path / "mine.arrow").write_bytes(b"")
    with pytest.raises(UserError, match=r"mine\.arrow .*: it is empty"):
        open_dataset(str(tmp_path / "mine.arrow"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7", "git lfs pull"),
        (b"", "it is empty"),
        (b"<html>404</html>", "it is HTML"),
        (b"text,label", "train.parquet is not a Parquet file that can be read"),
        (b"PAR1" + bytes(99) + b"PAR1", "train.parquet is not a Parquet file that can be read"),
    ],
)
def test_a_file_that_is_no_parquet_says_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (write(tmp_path, "train", "val", "test") / "train.parquet").write_bytes(content)
    assert reason in refusal(tmp_path)


def test_damage_shows_where_pages_have_checksums(tmp_path: Path) -> None:
    path = write(tmp_path, "val", "test") / "train.parquet"
    pq.write_table(
        table("needle"), path, compression="none", write_page_checksum=True, write_statistics=False
    )
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle", 1))
    with pytest.raises(UserError, match=r"train\.parquet is not a Parquet file"):
        list(open_dataset(str(tmp_path)).batches("train", ["text"]))


def test_features_of_hugging_face(tmp_path: Path) -> None:
    features = {
        "picture": {"_type": "Image"},
        "answer": {"_type": "ClassLabel", "names": ["no", "yes", "maybe"]},
        "title": {"_type": "Value", "dtype": "string"},
    }
    content = {"picture": [{"bytes": b"x", "path": None}] * 2, "answer": [1, 0], "title": ["a", "b"]}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table(content).replace_schema_metadata(metadata), tmp_path / f"{split}.parquet")
    dataset = open_dataset(str(tmp_path))
    assert {modality: where.column for modality, where in dataset.modalities.items()} == {
        "text": "title",
        "image": "picture",
    }
    assert dataset.label == "answer"
    assert dataset.task.to_dict()["classes"] == ["no", "yes", "maybe"]
    assert dataset.labels("train").tolist() == [1, 0]
    assert dataset.notes == ("columns: text=title, image=picture, label=answer (found by name and type)",)


@pytest.mark.parametrize("wrong", ["", "[" * 99_999, "[]", '{"info": 3}', '{"info": {"features": [1]}}'])
def test_other_metadata_of_hugging_face_say_nothing(tmp_path: Path, wrong: str) -> None:
    pq.write_table(table().replace_schema_metadata({"huggingface": wrong}), tmp_path / "mine.parquet")
    assert found(tmp_path).metadata == {}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"paretofuse.modalities": '["text"]'}, 'modalities is ["text"]; write an object'),
        ({"paretofuse.modalities": "[" * 99_999}, "modalities is no JSON: '[["),
        (
            {"paretofuse.modalities": '{"text": {"column": "text", "kind": ["text"]}}'},
            "modalities: kind of text",
        ),
        (
            {"paretofuse.task": "guessing"},
            "schema key paretofuse.task: unknown task 'guessing'; known: class",
        ),
        ({"paretofuse.modalities": "null"}, "modalities is null; write an object"),
        ({"paretofuse.classes": '"x"'}, "classes is x; write a list"),
        ({"paretofuse.classes": '["x", "x"]'}, "has the name 'x' more than once"),
        ({"paretofuse.classes": "[]"}, "classes is []; write a list"),
        ({"paretofuse.delimiter": "|"}, "paretofuse.delimiter is no JSON"),
        ({"paretofuse.delimiter": '""'}, 'delimiter is ""; write a text'),
        ({"paretofuse.range": "[3, -3]"}, "range is [3, -3]; write a list of two numbers"),
        ({"paretofuse.range": "3"}, "range is 3; write"),
        ({"paretofuse.label": ""}, "paretofuse.label is empty"),
        ({"paretofuse.label": "genre"}, "has no column 'genre'; its columns: text, label"),
        ({"paretofuse.lable": "label"}, "has the schema key paretofuse.lable; known: paretofuse.modalities"),
    ],
)
def test_a_description_of_another_form_names_its_key(
    tmp_path: Path, metadata: dict[str, str], reason: str
) -> None:
    for split in ("train", "validation", "test"):
        pq.write_table(table().replace_schema_metadata(metadata), tmp_path / f"{split}.parquet")
    with pytest.raises(UserError) as error:
        _ = open_dataset(str(tmp_path)).task
    assert reason in str(error.value)


def test_files_that_say_different_things_are_refused(tmp_path: Path) -> None:
    for split, classes in {"train": '["x", "y"]', "validation": '["y", "x"]', "test": '["x", "y"]'}.items():
        content = table().replace_schema_metadata({"paretofuse.classes": classes})
        pq.write_table(content, tmp_path / f"{split}.parquet")
    assert "in validation.parquet, and" in refusal(tmp_path)


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", "val", "test")
    content = table()
    twice = pa.table([*content.columns, content["label"]], names=["text", "label", "label"])
    pq.write_table(twice, tmp_path / "val.parquet")
    with pytest.raises(UserError, match=r"val\.parquet has the column 'label' 2 times"):
        open_dataset(str(tmp_path))
    pq.write_table(twice, tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"the column 'label' 2 times"):
        open_dataset(str(tmp_path))
