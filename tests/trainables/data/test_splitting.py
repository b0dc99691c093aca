"""Splits that are made: no picture or text is on two sides, and each class has its share in each."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.trainables.data.test_source import png
from trainables.data import SPLITS, Dataset
from trainables.data.readers import ALL, Found
from trainables.data.readers.tables import TablePart
from trainables.data.source import open_found
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings


def _open(
    columns: dict[str, list[Any]] | None = None,
    *,
    folder: Path = Path(),
    metadata: dict[str, str] | None = None,
    fraction: float = 0.15,
    **splits: dict[str, list[Any]],
) -> Dataset:
    """Open a dataset of columns by split; ``columns`` are of no split."""
    tables = {**({} if columns is None else {ALL: columns}), **splits}
    parts = {split: [TablePart(f"{split}.csv", pa.table(content))] for split, content in tables.items()}
    found = Found(parts, folder, metadata or {})
    return open_found("d", found, TaskSettings(), ReadingSettings(validation_fraction=fraction))


def _values(dataset: Dataset, split: str, column: str) -> list[Any]:
    return [value for batch in dataset.batches(split, [column], 7) for value in batch[column].to_pylist()]


def _sides(dataset: Dataset, column: str) -> dict[Any, set[str]]:
    """Return the splits in which each value occurs."""
    found: dict[Any, set[str]] = {}
    for split in SPLITS:
        for cell in _values(dataset, split, column):
            value = cell["bytes"] if isinstance(cell, dict) else cell
            found.setdefault(value, set()).add(split)
    return found


def _captions(pictures: int, each: int = 5) -> dict[str, list[Any]]:
    """Return the columns of pictures with several captions; every third picture is of one class."""
    rows = [(picture, caption) for picture in range(pictures) for caption in range(each)]
    return {
        "image": [png((picture, 0, 0)) for picture, _ in rows],
        "text": [f"caption {caption} of box {picture}" for picture, caption in rows],
        "label": ["rgb"[picture % 3] for picture, _ in rows],
    }


def test_a_picture_with_five_captions_is_in_one_split() -> None:
    dataset = _open(_captions(60))
    assert {len(splits) for splits in _sides(dataset, "image").values()} == {1}
    assert sorted(text for split in SPLITS for text in _values(dataset, split, "text")) == sorted(
        _captions(60)["text"]
    ), "each row is in one split"
    counts = {split: Counter(_values(dataset, split, "label")) for split in SPLITS}
    assert counts["validation"] == counts["test"] == {"r": 15, "g": 15, "b": 15}
    assert dataset.notes == (
        "no validation and no test split: 15 % of the rows (45 and 45 of 300, in groups of equal pictures or "
        "texts) became each; --validation-fraction sets the share",
    )


def test_equal_files_of_two_names_are_one_picture(tmp_path: Path) -> None:
    for number in range(40):  # each picture is there twice
        (tmp_path / f"{number}.png").write_bytes(png((number // 2, 0, 0)))
    columns = {
        "image": [f"{number}.png" for number in range(40)],
        "text": [f"Box {number % 20}" if number < 20 else f"box  {number % 20} " for number in range(40)],
        "label": ["r", "r", "g", "g"] * 10,
    }
    dataset = _open(columns, folder=tmp_path)
    assert {len(splits) for splits in _sides(dataset, "image").values()} == {1}
    where = _sides(dataset, "text")
    assert all(where[f"Box {number}"] == where[f"box  {number} "] for number in range(20))


def test_what_is_missing_joins_nothing(tmp_path: Path) -> None:
    """Nor does a file that cannot be read, or a text without letters."""
    (tmp_path / "there.png").write_bytes(png())
    columns = {
        "image": ["there.png", None, "", *["gone.png", None, ""] * 19],
        "text": [None if row % 2 else " " for row in range(60)],
        "label": ["r", "g"] * 30,
    }
    dataset = _open(columns, folder=tmp_path)
    assert [dataset.count(split) for split in SPLITS] == [42, 9, 9]
    assert "groups" not in dataset.notes[0]


def test_only_test_is_taken_from_train_alone() -> None:
    train, validation = _captions(40), {c: values[:50] for c, values in _captions(50).items()}
    dataset = _open(train=train, validation=validation)
    assert _values(dataset, "validation", "text") == validation["text"]
    assert [dataset.count(split) for split in SPLITS] == [170, 50, 30]
    assert dataset.notes[0].startswith("no test split: 15 % of the training rows (30 of 200, in groups")
    assert not {*_values(dataset, "train", "text")} & {*_values(dataset, "test", "text")}
    words = dataset.rows.words("test", [0])
    assert _values(dataset, "test", "text")[0] == train["text"][int(words[0].removeprefix("train row "))]


def test_splits_that_are_there_stay() -> None:
    content = _captions(10)
    dataset = _open(**dict.fromkeys(SPLITS, content))
    assert [dataset.count(split) for split in SPLITS] == [50, 50, 50]
    assert dataset.notes == ()


def test_the_same_rows_on_any_machine() -> None:
    content = {"text": [f"text {row}" for row in range(20)], "label": ["r", "g"] * 10}
    dataset = _open(content)
    words = {split: dataset.rows.words(split, range(dataset.count(split))) for split in SPLITS[1:]}
    assert words == {"validation": ["row 7", "row 10", "row 19"], "test": ["row 4", "row 12", "row 13"]}
    assert dataset.fingerprint == _open(content).fingerprint
    assert dataset.fingerprint != _open(content, fraction=0.3).fingerprint


def test_texts_that_say_nothing_do_not_join() -> None:
    content = {**_captions(60), "text": ["a picture"] * 200 + [f"box {row}" for row in range(100)]}
    dataset = _open(content)
    assert {len(splits) for splits in _sides(dataset, "image").values()} == {1}
    assert _sides(dataset, "text")["a picture"] == {*SPLITS}
    assert "equal pictures; equal texts may be on two sides, because they join most rows)" in dataset.notes[0]


def test_one_picture_for_all_rows_joins_none() -> None:
    content = {
        "image": [png()] * 60,
        "text": [f"box {row // 2}" for row in range(60)],
        "label": ["r", "g"] * 30,
    }
    dataset = _open(content)
    assert {len(splits) for splits in _sides(dataset, "text").values()} == {1}
    assert "equal texts; equal pictures may be on two sides" in dataset.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"image": [png()] * 9, "text": ["a"] * 9, "label": ["r", "g", "b"] * 3},
            "no validation and no test split, and none can be taken from its 9 rows: most hang together by "
            "equal pictures or texts, which may not be on two sides; give files of all splits",
        ),
        (
            {"text": ["a", "b", "c"], "label": ["r", "g", "b"]},
            "its 3 rows are too few to take some for it, because train keeps at least one of each class",
        ),
        (
            {"text": [f"{i}" for i in range(30)], "label": [f"${i},000" for i in range(30)]},
            "column 'label' has 30 distinct values in 30 rows; is it the label",
        ),
        ({"text": ["a"], "label": ["r"]}, "its 1 row is too few"),
    ],
)
def test_rows_that_cannot_be_divided(content: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _open(content)


def test_without_training_rows() -> None:
    with pytest.raises(UserError, match="has no train split; it has validation"):
        _open(validation=_captions(3))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.4])
def test_shares_of_classes(seed: int, fraction: float) -> None:
    """Of classes of any size, each is in train, and those with many groups have their share everywhere."""
    draw = random.Random(seed)
    sizes = [draw.choice([1, 2, 3, 8, 100, 400]) for _ in range(30)] + [400]
    labels = [f"c{number}" for number, size in enumerate(sizes) for _ in range(size)]
    draw.shuffle(labels)
    texts = [f"text {draw.randrange(2 * len(labels))}" for _ in labels]
    dataset = _open({"text": texts, "label": labels}, fraction=fraction)
    assert {len(splits) for splits in _sides(dataset, "text").values()} == {1}
    found = {split: Counter(_values(dataset, split, "label")) for split in SPLITS}
    assert {*found["train"]} == {*labels}
    for split in SPLITS[1:]:
        assert dataset.count(split) == pytest.approx(fraction * len(labels), abs=4)
        for number, size in enumerate(sizes):
            if size == 400:
                assert found[split][f"c{number}"] == pytest.approx(fraction * size, rel=0.5)


@pytest.mark.parametrize(
    ("labels", "metadata"),
    [
        (np.random.default_rng(0).normal(size=200).tolist(), {}),
        ([["a"] if row % 20 else ["a", "rare"] for row in range(200)], {}),
        ([[1, 0, 0] if row % 20 else [1, 0, 1] for row in range(200)], {}),
        (["a" if row % 20 else "a|rare" for row in range(200)], {"paretofuse.delimiter": '"|"'}),
    ],
)
def test_labels_that_are_no_classes(labels: list[Any], metadata: dict[str, str]) -> None:
    """Each split has large and small numbers, and rare tags."""
    dataset = _open({"text": [f"text {row}" for row in range(200)], "label": labels}, metadata=metadata)
    found = {split: _values(dataset, split, "label") for split in SPLITS}
    if isinstance(labels[0], float):
        assert all(np.mean(found[split]) == pytest.approx(np.mean(labels), abs=0.15) for split in SPLITS)
    else:
        assert [found[split].count(labels[0]) for split in SPLITS] == [7, 1, 2]


def test_without_labels() -> None:
    content = {
        "text": [f"text {row}" for row in range(100)],
        "image": [png((row, 0, 0)) for row in range(100)],
    }
    metadata = {"paretofuse.task": "retrieval", "paretofuse.query": "text"}
    dataset = _open(content, metadata=metadata)
    assert [dataset.count(split) for split in SPLITS] == [70, 15, 15]
