"""Columns with the paths of files: they are read as if they had the files' bytes."""

from __future__ import annotations

import base64
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import SPLITS, Dataset, open_dataset
from trainables.data.kinds import Content, Unreadable
from trainables.errors import UserError

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


def _cells(folder: Path, cells: list[Any], **content: Any) -> list[Content]:
    """Return the pictures of cells beside which there are the files 0.png to 2.png in images/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(COLOURS):
        (folder / "images" / f"{number}.png").write_bytes(png(colour))
    splits = dict.fromkeys(SPLITS, columns(len(cells), image=cells, **content))
    return _images(open_dataset(str(write_dataset(folder, **splits))), "train")


@pytest.mark.parametrize(
    "path",
    [
        "images/1.png",
        "images\\1.png",
        "images/1.PNG",
        " images/1.png ",
        "./images/1.png",
        "images/../images/1.png",
        "{}/images/1.png",
    ],
)
def test_paths_may_be_written_in_any_way(tmp_path: Path, path: str) -> None:
    assert _cells(tmp_path, [path.format(tmp_path)]) == [png(COLOURS[1])]


def test_accents_may_be_one_letter_or_two(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "é.png")).write_bytes(png())
    assert _cells(tmp_path, [unicodedata.normalize("NFC", "é.png")]) == [png()]


def test_the_folder_in_which_files_are_is_found_and_said(tmp_path: Path) -> None:
    assert _cells(tmp_path, ["1.png", "0.png"]) == [png(COLOURS[1]), png(COLOURS[0])]
    assert open_dataset(str(tmp_path)).notes == ("files of column 'image' are in images/",)


def test_a_folder_in_doubt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "1.png").write_bytes(png())
    with pytest.raises(UserError, match=r"'1\.png' in train\.parquet, which is in images, masks; write"):
        _cells(tmp_path, ["1.png"])
    with pytest.raises(UserError, match=r"names '7\.png'; none of the first files is in .*; write paths"):
        _cells(tmp_path, ["7.png"])


def test_paths_may_begin_with_the_folder_itself(tmp_path: Path) -> None:
    assert _cells(tmp_path / "mine", ["mine/images/1.png"]) == [png(COLOURS[1])]
    assert open_dataset(str(tmp_path / "mine")).notes == ("files of column 'image' are in ../",)


def test_addresses_are_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the address of a file; fetch the files"):
        _cells(tmp_path, ["https://example.org/1.png"])


def test_parts_may_not_have_their_own_folders(tmp_path: Path) -> None:
    """Otherwise a test row might get the training picture of the same name."""
    splits = {}
    for split in SPLITS:
        (tmp_path / f"{split}_images").mkdir()
        (tmp_path / f"{split}_images" / f"{split}.png").write_bytes(png())
        splits[split] = columns(1, image=[f"{split}.png"])
    write_dataset(tmp_path, **splits)
    with pytest.raises(
        UserError, match=r"files of train\.parquet are in .*train_images, those of validation"
    ):
        open_dataset(str(tmp_path))


def test_bytes_may_be_written_as_text(tmp_path: Path) -> None:
    data = base64.b64encode(png()).decode()
    safe = base64.urlsafe_b64encode(png()).decode()
    cells = [
        data,
        f"data:image/png;base64,{data}",
        safe,
        "\n".join([data[:76], data[76:]]),
        data[:-3] + "!!!",
        None,
    ]
    *whole, damaged, missing = _cells(tmp_path, cells)
    assert whole == [png()] * 4
    assert damaged == Unreadable("a base64 text that is damaged")
    assert missing is None


@pytest.mark.parametrize(
    "several", ["images/1.png|images/0.png", "images/1.png; images/0.png", ["images/1.png", "x"]]
)
def test_of_several_files_the_first_is_taken_and_it_is_said(tmp_path: Path, several: Any) -> None:
    one = ["images/0.png"] if isinstance(several, list) else "images/0.png"
    assert _cells(tmp_path, [several, one]) == [png(COLOURS[1]), png(COLOURS[0])]
    assert open_dataset(str(tmp_path)).notes == (
        "3 rows name several files in column 'image'; the first is taken",
    )


def test_a_name_may_look_like_several(tmp_path: Path) -> None:
    (tmp_path / "a.v12;b.png").write_bytes(png())
    assert _cells(tmp_path, ["a.v12;b.png"]) == [png()]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("images", "a folder, not a file"),
        ("https://example.org/1.png", "the address of a file, which is not fetched"),
        ("x" * 5000, "no such file in {}"),
        ("a\0b", "no such file in {}"),
        ("x" * 300, "no such file in {}"),
    ],
)
def test_what_is_no_file_says_why(tmp_path: Path, cell: str, reason: str) -> None:
    assert _cells(tmp_path, ["images/1.png", cell])[1] == Unreadable(reason.format(tmp_path))
