"""The example that turns a folder of images and a CSV file into a dataset."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from trainables.data import SPLITS, open_dataset

SCRIPT = Path(__file__).parents[2] / "examples" / "folder_to_parquet.py"
ROWS = [
    {"image": f"{i}.png", "text": f"picture, number {i}", "label": label, "split": split}
    for i, (label, split) in enumerate(
        zip(["red", "blue"] * 3, ["train", "train", "train", "validation", "test", "test"], strict=True)
    )
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of six images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for row in ROWS:
        Image.new("RGB", (20, 16), row["label"]).save(folder / row["image"])
    return folder


def _run(folder: Path, rows: list[dict[str, str]], name: str = "out") -> subprocess.CompletedProcess[str]:
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    command = [sys.executable, SCRIPT, "captions.csv", "images", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _texts(folder: Path) -> dict[str, list[str]]:
    dataset = open_dataset(str(folder))
    return {
        split: [text for batch in dataset.batches(split, ["text"]) for text in batch["text"].to_pylist()]
        for split in SPLITS
    }


def test_result_opens_as_a_dataset(tmp_path: Path, images: Path) -> None:
    done = _run(tmp_path, ROWS)
    assert (done.returncode, done.stderr) == (0, "")
    dataset = open_dataset(str(tmp_path / "out"))
    assert {split: dataset.count(split) for split in SPLITS} == {"train": 3, "validation": 1, "test": 2}
    assert dataset.task.to_dict()["classes"] == ["blue", "red"]
    (batch,) = dataset.batches("test", ["text", "image", "label"])
    assert batch.to_pylist() == [
        {"text": row["text"], "image": (images / row["image"]).read_bytes(), "label": row["label"]}
        for row in ROWS[4:]
    ]


def test_rows_without_split_go_where_their_text_says(tmp_path: Path, images: Path) -> None:
    rows = [{**ROWS[i % 6], "text": f"text {i // 2}"} for i in range(400)]
    for row in rows:
        del row["split"]
    assert _run(tmp_path, rows, "once").returncode == 0
    assert _run(tmp_path, rows[::-1], "again").returncode == 0
    once, again = _texts(tmp_path / "once"), _texts(tmp_path / "again")
    assert {split: texts[::-1] for split, texts in again.items()} == once
    assert sum(len(set(texts)) for texts in once.values()) == 200
    assert 290 < len(once["train"]) < 350


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": "7.png"}, "row 2: there is no images/7.png"),
        ({"label": ""}, "row 2: no label"),
        ({"split": "dev"}, "row 2: split 'dev' is none of train, validation, test"),
        ({"split": "validation"}, "no rows for train, test"),
    ],
)
def test_mistake_is_one_line(tmp_path: Path, images: Path, change: dict[str, str], complaint: str) -> None:
    rows = [ROWS[3], {**ROWS[3], **change}]
    done = _run(tmp_path, rows)
    assert done.returncode == 2
    assert done.stderr.startswith("error: captions.csv")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
