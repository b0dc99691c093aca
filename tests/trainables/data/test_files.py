"""Columns with the paths of files: they are read as if they had the files' bytes."""

from __future__ import annotations

from pathlib import Path

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import Dataset, open_dataset
from trainables.data.kinds import Content, Unreadable

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def _with_paths(folder: Path, paths: list[str | None]) -> Dataset:
    (folder / "pictures").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        (folder / "pictures" / f"{number}.png").write_bytes(png(colour))
    return open_dataset(str(write_dataset(folder, train=columns(image=paths))))


def _images(dataset: Dataset, split: str) -> list[Content]:
    column = dataset.modalities["image"].column
    batches = dataset.batches(split, ["text", column], 2)
    return [value for batch in batches for value in dataset.contents("image", batch)]


def test_files_are_read(tmp_path: Path) -> None:
    dataset = _with_paths(tmp_path / "d", ["pictures/2.png", None, "pictures/0.png"])
    assert _images(dataset, "train") == [png(COLOURS[2]), None, png(COLOURS[0])]
    assert _images(dataset, "test") == [png()] * 3  # this split has the bytes themselves


def test_a_file_that_is_not_there_names_its_row(tmp_path: Path) -> None:
    dataset = _with_paths(tmp_path / "d", ["pictures/2.png", "pictures/0.png", "pictures/7.png"])
    assert _images(dataset, "train")[2] == Unreadable(f"no such file in {tmp_path / 'd'}")
    assert dataset.rows.words("train", [2, 0]) == [
        "train row 2, pictures/7.png",
        "train row 0, pictures/2.png",
    ]


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    paths: list[str | None] = ["pictures/2.png", None, "pictures/0.png"]
    first, second = _with_paths(tmp_path / "a", paths), _with_paths(tmp_path / "b", paths)
    assert first.fingerprint == second.fingerprint
    (tmp_path / "b" / "pictures" / "0.png").write_bytes(png((1, 2, 3)))
    assert open_dataset(str(tmp_path / "b")).fingerprint != first.fingerprint
