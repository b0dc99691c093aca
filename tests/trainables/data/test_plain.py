"""Types of Arrow that mean the same mix freely; others name the files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import Dataset, open_dataset
from trainables.data.plain import plain_parts, plain_type, shared_type
from trainables.data.readers import ALL, READERS
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

TEXTS = ["a", None, "b"]


def _cells(dataset: Dataset, split: str, modality: str) -> list[object]:
    column = dataset.modalities[modality].column
    return [
        content
        for batch in dataset.batches(split, [column], 2)
        for content in dataset.contents(modality, batch)
    ]


def test_texts_of_all_types_mix(tmp_path: Path) -> None:
    kinds = [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ]
    shards = {
        f"train_{i}": columns(text=pa.array(TEXTS, pa.string()).cast(kind)) for i, kind in enumerate(kinds)
    }
    shards["train_5"] = columns(text=pa.nulls(3))
    assert (
        _cells(open_dataset(str(write_dataset(tmp_path, **shards))), "train", "text")
        == TEXTS * 5 + [None] * 3
    )


def test_pictures_of_all_types_mix(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    kinds = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(len(png()))]
    shards = {f"train_{i}": columns(image=pa.array([png()] * 3, kind)) for i, kind in enumerate(kinds)}
    some = write_dataset(tmp_path, **shards)
    assert _cells(open_dataset(str(some)), "train", "image") == [png()] * 12
    shards |= {
        "train_4": columns(image=[{"bytes": png(), "path": "no.png"}] * 3),
        "train_5": columns(image=["a.png"] * 3),
        "train_6": columns(image=[["a.png", "b.png"]] * 3),
        "train_7": columns(image=pa.nulls(3)),
    }
    dataset = open_dataset(str(write_dataset(tmp_path, **shards)))
    assert _cells(dataset, "train", "image") == [png()] * 21 + [None] * 3
    assert dataset.notes == ("3 rows name several files in column 'image'; the first is taken",)


def test_vectors_of_all_types_mix(tmp_path: Path) -> None:
    kinds = [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.int16()),
        pa.list_(pa.float16()),
    ]
    values = [[1, 2], None, [3, 4]]
    shards = {f"train_{i}": columns(features=pa.array(values, kind)) for i, kind in enumerate(kinds)}
    fixed = pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))
    others = {split: columns(features=fixed) for split in ("validation", "test")}
    cells = _cells(open_dataset(str(write_dataset(tmp_path, **shards, **others))), "train", "features")
    assert [None if cell is None else cell.tolist() for cell in cells] == [[[1, 2]], None, [[3, 4]]] * 4  # type: ignore[attr-defined]


def test_labels_of_all_widths_mix(tmp_path: Path) -> None:
    kinds = [pa.int8(), pa.uint16(), pa.int64(), pa.dictionary(pa.int8(), pa.int32())]
    shards = {f"train_{i}": columns(label=pa.array([1, 0, 1], kind)) for i, kind in enumerate(kinds)}
    others = {split: columns(label=[1, 0, 1]) for split in ("validation", "test")}
    dataset = open_dataset(str(write_dataset(tmp_path, **shards, **others)))
    assert dataset.labels("train").tolist() == [1, 0, 1] * 4


def test_types_that_have_nothing_in_common_name_their_files(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=columns(label=[0, 1, 0]))
    with pytest.raises(UserError) as error:
        _ = open_dataset(str(tmp_path)).task
    assert "int64" in str(error.value)
    assert "train.parquet" in str(error.value)
    assert "validation.parquet" in str(error.value)


def test_numbers_that_do_not_fit_name_their_file(tmp_path: Path) -> None:
    shards = {
        "train_0": columns(label=pa.array([2**64 - 1] * 3, pa.uint64())),
        "train_1": columns(label=[1, 2, 3]),
    }
    others = {split: columns(label=[1, 0, 1]) for split in ("validation", "test")}
    write_dataset(tmp_path, **shards, **others)
    with pytest.raises(UserError, match=r"train-0\.parquet column 'label' has values that cannot be"):
        _ = open_dataset(str(tmp_path)).task


def test_a_shard_without_rows(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, train_0=pa.table(columns())[:0], train_1=columns())
    assert open_dataset(str(folder)).count("train") == 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.dictionary(pa.int8(), pa.string_view()), pa.string()),
        (pa.binary(7), pa.large_binary()),
        (pa.decimal128(7, 2), pa.float64()),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), pa.list_(pa.string())),
        (pa.list_view(pa.float16()), pa.list_(pa.float32())),
        (pa.uuid(), pa.large_binary()),
    ],
)
def test_plain_types(tmp_path: Path, kind: pa.DataType, expected: pa.DataType) -> None:
    assert plain_type(kind) == expected


def test_lists_of_lists_have_a_shared_type() -> None:
    kinds = [pa.list_(pa.list_(pa.float32())), pa.large_list(pa.list_(pa.float64(), 3))]
    assert shared_type(kinds) == pa.large_list(pa.large_list(pa.float64()))
    assert shared_type([pa.list_(pa.float32()), pa.string()]) is None


def test_lists_as_views_keep_their_items(tmp_path: Path) -> None:
    values = pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_view(pa.float32()))
    with pa.ipc.new_stream(str(tmp_path / "mine.arrow"), pa.table(columns(features=values)).schema) as writer:
        writer.write_table(pa.table(columns(features=values)))
    found = READERS["arrow"].read("mine", tmp_path / "mine.arrow", ReadingSettings())
    (part,) = plain_parts("mine", found.parts[ALL])
    (batch,) = part.batches(["features"], 9)
    assert batch["features"].to_pylist() == [[1, 2], [3, 4], None]
