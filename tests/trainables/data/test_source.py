"""Opening datasets: what is accepted, what is refused and how it is said."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainables.data import SPLITS, Dataset, open_dataset
from trainables.data.kinds.base import file_bytes
from trainables.data.readers import Found
from trainables.data.readers.tables import TablePart
from trainables.data.source import Modality, open_found
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings


def png(color: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (40, 32)) -> bytes:
    """Return a PNG file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def columns(n: int = 3, **changes: Any) -> dict[str, Any]:
    """Return the columns of n rows, with some exchanged; None leaves a column out."""
    default = {"text": ["a red square"] * n, "image": [png()] * n, "label": [f"c{i % 2}" for i in range(n)]}
    return {name: values for name, values in {**default, **changes}.items() if values is not None}


def write_dataset(folder: Path, metadata: dict[str, str] | None = None, **files: Any) -> Path:
    """Write a dataset of ``files``, name (``_`` for ``-``) to columns; other splits get three rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        if not any(name.startswith(split) for name in files):
            files[split] = columns()
    for name, content in files.items():
        table = pa.table(content).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{name.replace('_', '-')}.parquet")
    return folder


def _classes(dataset: Dataset) -> list[str]:
    classes: list[str] = dataset.task.to_dict()["classes"]
    return classes


def _texts(name: str, split: str) -> list[str]:
    return [t for batch in open_dataset(name).batches(split, ["text"], 2) for t in batch["text"].to_pylist()]


def test_missing_split(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "validation.parquet").unlink()
    with pytest.raises(UserError, match="has no validation"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("split", "column"),
    [
        (s, c)
        for s in ("validation", "test")
        for c in ("text", "image", "label")
        if (s, c) != ("test", "label")
    ],
)
def test_missing_column_lists_those_there_are(tmp_path: Path, split: str, column: str) -> None:
    write_dataset(tmp_path, **{split: columns(**{column: None})})
    with pytest.raises(UserError) as error:
        open_dataset(str(tmp_path))
    message = str(error.value)
    assert f"'{column}'" in message
    assert all(left in message for left in {"text", "image", "label"} - {column})


def test_columns_with_the_name_of_a_kind_are_the_modalities(tmp_path: Path) -> None:
    write_dataset(tmp_path, **dict.fromkeys(SPLITS, columns(image=None)))
    assert set(open_dataset(str(tmp_path)).modalities) == {"text"}
    write_dataset(tmp_path, **dict.fromkeys(SPLITS, columns(image=None, text=None)))
    with pytest.raises(UserError, match=r"no column is known as a modality \(text, image, audio, features\)"):
        open_dataset(str(tmp_path))


def test_modalities_of_one_kind(tmp_path: Path) -> None:
    """A kind is said, or else found by the column's type."""
    described = {"premise": "text", "hypothesis": {"column": "label", "kind": "text"}, "sensor": "sensor"}
    content = {**columns(label=["a", "b", "a"]), "sensor": [[1.0], [2.0], [3.0]]}
    metadata = {"paretofuse.modalities": json.dumps(described)}
    found = open_dataset(str(write_dataset(tmp_path, metadata, **dict.fromkeys(SPLITS, content)))).modalities
    assert {modality: where.kind for modality, where in found.items()} == {
        "premise": "text",
        "hypothesis": "text",
        "sensor": "features",
    }
    assert list(found) == list(described), "in the order in which they are described"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([["text", "image"]], r'modalities is \[\["text", "image"\]\]; write an object'),
        ({}, "modalities is {}; write an object"),
        ({"text": 3}, "text is 3; write"),
        ({"text": {"column": "text", "type": "text"}}, "text is {.*}; write"),
        (
            {"text": {"column": "text", "kind": "smell"}},
            "kind of text 'smell'; known: audio, features, image",
        ),
        ({"text": "image"}, r"column 'image' is binary; expected string"),
    ],
)
def test_modalities_described_wrongly(tmp_path: Path, described: Any, message: str) -> None:
    write_dataset(tmp_path, {"paretofuse.modalities": json.dumps(described)})
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("column", "values", "found"), [("text", [1, 2, 3], "int64"), ("image", [1.5] * 3, "double")]
)
def test_wrong_column_type(tmp_path: Path, column: str, values: list[Any], found: str) -> None:
    write_dataset(tmp_path, test=columns(**{column: values}))
    with pytest.raises(UserError, match=rf"test\.parquet column '{column}' is {found}; expected"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"text,image,label\n"], ids=["empty", "csv"])
@pytest.mark.parametrize(
    "split",
    [
        "train",
        "validation",
    ],
)
def test_file_that_is_no_parquet(tmp_path: Path, split: str, content: bytes) -> None:
    write_dataset(tmp_path)
    (tmp_path / f"{split}.parquet").write_bytes(content)
    with pytest.raises(UserError, match=rf"{split}\.parquet is not a Parquet file"):
        open_dataset(str(tmp_path))


def test_parquet_file_with_damaged_footer(tmp_path: Path) -> None:
    path = write_dataset(tmp_path) / "test.parquet"
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[-8:-4], "little")
    content[-8 - length : -8] = b"\xff" * length
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"test\.parquet is not a Parquet file"):
        open_dataset(str(tmp_path))


def test_split_without_rows(tmp_path: Path) -> None:
    write_dataset(tmp_path, validation=pa.table(columns())[:0])
    with pytest.raises(UserError, match=r"validation.*no rows"):
        open_dataset(str(tmp_path))


def test_classes_are_the_sorted_names_of_train(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=columns(label=["c1", "b", "c0"]), test=columns(label=["a", "b", "c0"]))
    dataset = open_dataset(str(tmp_path))
    assert _classes(dataset) == ["b", "c0", "c1"]
    assert dataset.labels("test").tolist() == [3, 0, 1]
    assert dataset.remarks == (
        "test: 1 of 3 rows are of a class that train lacks ('a'); they count as wrong",
    )


def test_numbers_are_indices_of_stated_names_only(tmp_path: Path) -> None:
    files = {split: columns(label=[0, 3, 1]) for split in SPLITS}
    assert _classes(open_dataset(str(write_dataset(tmp_path / "a", **files)))) == ["0", "1", "3"]
    stated = {"paretofuse.classes": json.dumps(["a", "b", "c", "d"])}
    dataset = open_dataset(str(write_dataset(tmp_path / "b", stated, **files)))
    assert _classes(dataset) == ["a", "b", "c", "d"]
    assert dataset.labels("train").tolist() == [0, 3, 1]


def test_labels_are_class_indices_and_a_bad_one_names_its_row(tmp_path: Path) -> None:
    names = json.dumps(["c1", "c0"])
    write_dataset(tmp_path, {"paretofuse.classes": names}, validation=columns(label=["c0", "c1", "c0"]))
    assert open_dataset(str(tmp_path)).labels("validation").tolist() == [1, 0, 1]
    write_dataset(tmp_path, {"paretofuse.classes": names}, validation=columns(label=["c0", "c1", "c9"]))
    with pytest.raises(UserError, match=r"\(validation row 2\) are of none of the 2 classes .*, but 'c9'"):
        open_dataset(str(tmp_path)).labels("validation")


@pytest.mark.parametrize("label", [None, "", "  "])
def test_empty_label_is_refused(tmp_path: Path, label: str | None) -> None:
    write_dataset(tmp_path, test=columns(label=["c0", label, "c1"]))
    with pytest.raises(UserError, match=r"'label': no label in 1 of 3 test rows \(test row 1\); fill it in"):
        _ = open_dataset(str(tmp_path)).task


def test_rows_without_a_label_can_be_left_out(tmp_path: Path) -> None:
    some = columns(label=["c0", None, "c1"], text=["a", "b", "c"])
    write_dataset(tmp_path, train=some, validation=some, test=columns(label=[None] * 3))
    dataset = open_dataset(str(tmp_path), reading=ReadingSettings(bad_rows="skip"))
    assert [dataset.count(split) for split in SPLITS] == [2, 2, 3]
    assert dataset.labels("validation").tolist() == [0, 1]
    assert dataset.labeled == ("train", "validation")
    assert dataset.notes == ("rows without a label are left out: 2",)
    assert dataset.rows.words("train", [1]) == ["train row 2"]


@pytest.mark.parametrize("labels", [None, [None] * 3, [""] * 3], ids=["no column", "null", "empty"])
def test_a_test_split_may_have_no_labels(tmp_path: Path, labels: list[str | None] | None) -> None:
    dataset = open_dataset(str(write_dataset(tmp_path, test=columns(label=labels))))
    assert _classes(dataset) == ["c0", "c1"]
    assert dataset.labeled == ("train", "validation")
    assert dataset.remarks == ("test: not scored, its rows have no labels",)
    assert [batch.num_rows for batch in dataset.batches("test", ["label"])] == [3]
    assert next(dataset.batches("test", ["text", "label"]))["text"].to_pylist() == ["a red square"] * 3


def test_labels_of_one_meaning_mix_freely(tmp_path: Path) -> None:
    texts = ["c0", "c1", "c0"]
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
    folder = write_dataset(
        tmp_path / "texts",
        **{split: columns(label=pa.array(texts, kind)) for split, kind in zip(SPLITS, kinds, strict=True)},
    )
    assert open_dataset(str(folder)).labels("validation").tolist() == [0, 1, 0]
    folder = write_dataset(
        tmp_path / "numbers",
        train=columns(label=pa.array([1, 2, 1], pa.int8())),
        validation=columns(label=[1.0, 2.0, 1.0]),
        test=columns(label=pa.array([1, 2, 1], pa.uint64())),
    )
    dataset = open_dataset(str(folder))
    assert dataset.decided == "by its labels, double, all whole numbers"
    assert dataset.labels("validation").tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        (
            [0, 1, 0],
            ["a", "b", "a"],
            "numbers .int64. in train.parquet, but texts .string. in validation.parquet",
        ),
        ([0, 1, 0], [True, False, True], "numbers .* in train.parquet, but booleans"),
        ([["a"]] * 3, ["a"] * 3, "lists of texts .* in train.parquet, but texts"),
    ],
)
def test_labels_of_different_types_are_refused(
    tmp_path: Path, train: list[Any], validation: list[Any], words: str
) -> None:
    write_dataset(tmp_path, train=columns(label=train), validation=columns(label=validation))
    with pytest.raises(UserError, match=f"column 'label' has {words}"):
        open_dataset(str(tmp_path))


def test_rows_have_the_users_words_in_messages(tmp_path: Path) -> None:
    table = pa.table(columns(label=["c0", None, "c1"]))
    part = TablePart("pets.csv", table, ["pets.csv line 2", "pets.csv line 3", "pets.csv line 4"])
    found = Found({split: [part] for split in SPLITS}, tmp_path)
    with pytest.raises(UserError, match=r"1 of 3 train rows \(pets\.csv line 3\)"):
        _ = open_found("pets", found, TaskSettings()).task


def test_schema_metadata_name_columns_and_classes(tmp_path: Path) -> None:
    content = {"title": ["a"], "picture": [png()], "kind": ["dog"]}
    metadata = {
        "paretofuse.modalities": json.dumps({"text": "title", "image": "picture"}),
        "paretofuse.label": "kind",
        "paretofuse.task": "classification",
        "paretofuse.classes": json.dumps(["dog", "cat"]),
    }
    dataset = open_dataset(str(write_dataset(tmp_path, metadata, **dict.fromkeys(SPLITS, content))))
    assert dataset.modalities == {"text": Modality("title", "text"), "image": Modality("picture", "image")}
    assert dataset.label == "kind"
    assert _classes(dataset) == ["dog", "cat"]


def test_unknown_task(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"paretofuse.task": "guessing"})
    with pytest.raises(UserError, match="unknown task 'guessing'; known: classification"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("key", ["modalities", "classes"])
def test_schema_metadata_that_are_no_json(tmp_path: Path, key: str) -> None:
    write_dataset(tmp_path, {f"paretofuse.{key}": "cat,dog"})
    with pytest.raises(UserError, match=rf"paretofuse\.{key}"):
        _ = open_dataset(str(tmp_path)).task


def test_wrong_label_type(tmp_path: Path) -> None:
    write_dataset(tmp_path, **dict.fromkeys(SPLITS, columns(label=[{"a": 0}, {"a": 1}, {"a": 0}])))
    with pytest.raises(UserError, match=r"column 'label' is struct.*; expected"):
        open_dataset(str(tmp_path))


def test_image_as_struct(tmp_path: Path) -> None:
    cells = [{"bytes": png(), "path": f"{i}.png"} for i in range(3)]
    dataset = open_dataset(str(write_dataset(tmp_path, train=columns(image=cells))))
    (batch,) = dataset.batches("train", ["image"])
    assert [file_bytes(cell) for cell in batch["image"].to_pylist()] == [png()] * 3


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_dataset(
        tmp_path,
        train_00001=columns(text=["d", "e", "f"]),
        train_00000=columns(text=["a", "b", "c"]),
    )
    assert open_dataset(str(tmp_path)).count("train") == 6
    assert _texts(str(tmp_path), "train") == list("abcdef")


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = open_dataset(str(write_dataset(tmp_path / "first")))
    copied = open_dataset(str(shutil.copytree(tmp_path / "first", tmp_path / "copied")))
    changed = write_dataset(tmp_path / "changed", test=columns(text=["a red square", "a red", "a"]))
    assert copied.fingerprint == first.fingerprint
    assert open_dataset(str(changed)).fingerprint != first.fingerprint


def test_fingerprint_tells_splits_apart(tmp_path: Path) -> None:
    few, many = columns(2), columns(4)
    first = write_dataset(tmp_path / "first", validation=few, test=many)
    swapped = write_dataset(tmp_path / "swapped", validation=many, test=few)
    assert open_dataset(str(first)).fingerprint != open_dataset(str(swapped)).fingerprint


def test_texts_that_are_no_text_name_their_file(tmp_path: Path) -> None:
    wrong = pa.array([b"a \xff square"] * 3).cast(pa.binary()).view(pa.string())
    folder = write_dataset(tmp_path / "d", validation=columns(text=wrong))
    with pytest.raises(UserError, match=r"validation\.parquet is not a Parquet file that can be read"):
        _texts(str(folder), "validation")
    wrong = columns(label=wrong)
    with pytest.raises(UserError, match=r"validation\.parquet is not a Parquet file that can be read"):
        open_dataset(str(write_dataset(tmp_path / "e", validation=wrong))).labels("validation")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d")
    path = folder / "train.parquet"
    content = bytearray(path.read_bytes())
    content[8:60] = bytes(52)  # pages; the schema at the end is whole
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.parquet is not a Parquet file that can be read"):
        _texts(str(folder), "train")
