"""MSR-VTT as MMT publishes its features."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.trainables.data.readers.cells import cells, lengths, vectors
from trainables.data import open_dataset
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.feature_sets import EXPERTS, write_msrvtt, write_pickle

LISTS = "symlinked-feats"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_msrvtt(tmp_path / "MSRVTT")


def _videos(dataset: object, split: str) -> list[str]:
    return [row for batch in dataset.batches(split, ["video"]) for row in batch["video"].to_pylist()]  # type: ignore[attr-defined]


def _file(folder: Path, video: str) -> Path:
    return folder / "vid_feat_files/mult_h5" / "v/i/d" / f"{video}.h5"


def test_rows_are_videos_with_one_of_their_captions(folder: Path) -> None:
    dataset = open_dataset(f"msrvtt:{folder}")
    assert list(dataset.modalities) == ["caption", *EXPERTS]
    assert dataset.task.in_words() == "retrieval by caption, with vectors of 256 numbers"
    assert cells(dataset, "caption")[:4] == [
        *("scene 0 take 0", "scene 0 take 1", "scene 0 take 2"),
        "scene 1 take 0",
    ]
    assert dataset.labels("train")[:4].tolist() == [[0, 0], [1, 0], [2, 0], [3, 1]]
    assert dataset.rows.words("train", [4]) == ["video7001: scene 1 take 1"]


def test_jsfusion_takes_one_caption_of_each_test_video(folder: Path) -> None:
    dataset = open_dataset(f"msrvtt:{folder}")
    assert cells(dataset, "caption", "test") == [f"scene {i} take {i % 3}" for i in range(12, 16)]


def test_videos_of_train_become_validation(folder: Path) -> None:
    half = open_dataset(f"msrvtt:{folder}", None, ReadingSettings(validation_fraction=0.25))
    train, validation = ({*_videos(half, split)} for split in ("train", "validation"))
    assert (len(train), len(validation), half.count("validation")) == (9, 3, 9)
    assert not train & validation
    assert half.notes[0] == "jsfusion has no validation split: 3 of the 12 training videos are it"
    assert _videos(open_dataset(f"msrvtt:{folder}", None, ReadingSettings()), "validation") == _videos(
        open_dataset(f"msrvtt:{folder}"), "validation"
    )


@pytest.mark.parametrize(
    ("name", "counts", "notes"),
    [
        (
            "train_list_miech.txt",
            [24, 6, 12],
            ["miech has no validation", "train has 10 (published: 6,656), test has 4 (pub"],
        ),
        (
            "train_list.txt",
            [24, 12, 12],
            ["other numbers of videos than published: train has 8 (published: 6,513), valida"],
        ),
    ],
)
def test_the_list_of_training_videos_says_the_splits(
    folder: Path, name: str, counts: list[int], notes: list[str]
) -> None:
    dataset = open_dataset(f"msrvtt:{folder / LISTS / name}")
    assert [dataset.count(split) for split in ("train", "validation", "test")] == counts
    assert all(part in note for part, note in zip(notes, dataset.notes, strict=True))


def test_experts_that_a_video_lacks_are_missing(folder: Path) -> None:
    dataset = open_dataset(f"msrvtt:{folder}/{LISTS}/train_list.txt")
    for expert, video in {"face": 0, "ocr": 1, "speech": 2}.items():
        found = dict(zip(_videos(dataset, "train"), lengths(dataset, expert), strict=True))
        assert [int(name[-2:]) for name, length in found.items() if not length] == [video]


def test_more_vectors_than_mmt_takes_are_thinned_out(folder: Path) -> None:
    dataset = open_dataset(f"msrvtt:{folder}")
    rows = [row for row, video in enumerate(_videos(dataset, "train")) if video == "video7003"]
    places = vectors(dataset, "rgb")[rows[0]][:, 0]
    assert (len(places), places[0], places[-1]) == (30, 0, 39)
    assert (np.diff(places) > 0).all()


@pytest.mark.parametrize(
    "file", ["train_list_jsfusion.txt", "val_list_jsfusion.txt", "jsfusion_val_caption_idx.pkl"]
)
def test_a_missing_list_is_named(folder: Path, file: str) -> None:
    (folder / LISTS / file).unlink()
    with pytest.raises(UserError, match=f"has no .*{re.escape(file)}"):
        open_dataset(f"msrvtt:{folder}")


def test_lists_beside_the_features_are_found(folder: Path) -> None:
    for path in (folder / LISTS).iterdir():
        path.rename(folder / path.name)
    assert open_dataset(f"msrvtt:{folder}").count("test") == 4
    assert open_dataset(f"msrvtt:{folder}/train_list.txt").count("test") == 12


def test_another_file_is_refused(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"test_list\.txt is no list of training videos; those are train_list"
    ):
        open_dataset(f"msrvtt:{folder}/{LISTS}/test_list.txt")


def test_a_folder_without_features_is_refused(folder: Path) -> None:
    (folder / "vid_feat_files").rename(folder / "features")
    with pytest.raises(UserError, match=r"has no folder .*vid_feat_files/mult_h5"):
        open_dataset(f"msrvtt:{folder}")


def test_videos_without_a_file_are_counted(folder: Path) -> None:
    for video in ("video7002", "video7005"):
        _file(folder, video).unlink()
    with pytest.raises(UserError, match=r"2 of 8 train videos have no file, the first is .*/video7002\.h5"):
        open_dataset(f"msrvtt:{folder}/{LISTS}/train_list.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [*names, names[2]], "names video7002 twice"),
        (lambda names: [*names, "video7013"], "video7013 is in the lists of train and test"),
        (lambda names: [], "names no video"),
        (lambda names: ["\udcff"], "is no text in UTF-8"),
        (lambda names: ["a\0b"], "1 of 1 train videos have no file"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(folder: Path, change: object, message: str) -> None:
    path = folder / LISTS / "train_list.txt"
    names = change(path.read_text().split())  # type: ignore[operator]
    path.write_text("\n".join(names), errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        open_dataset(f"msrvtt:{path}")


def test_a_caption_must_be_there(folder: Path) -> None:
    numbers = folder / LISTS / "jsfusion_val_caption_idx.pkl"
    write_pickle(numbers, {f"video{7012 + i}": 7 for i in range(4)})
    with pytest.raises(UserError, match=r"video7012\.h5 has no raw_captions\.7"):
        open_dataset(f"msrvtt:{folder}")
    write_pickle(numbers, {"video7012": 0})
    with pytest.raises(UserError, match=r"caption_idx\.pkl lacks 3 of 4 test videos, the first is video7013"):
        open_dataset(f"msrvtt:{folder}")
    write_pickle(numbers, {"video7012": "first"})
    with pytest.raises(UserError, match="has not a number of a caption by video"):
        open_dataset(f"msrvtt:{folder}")
    with h5py.File(_file(folder, "video7000"), "a") as file:
        del file["raw_captions.0"], file["raw_captions.1"], file["raw_captions.2"]
    with pytest.raises(UserError, match=r"video7000\.h5 has no raw_captions\.0"):
        open_dataset(f"msrvtt:{folder}/{LISTS}/train_list.txt")


@pytest.mark.parametrize("values", [np.zeros((2, 7)), np.ones(512), np.array([[b"x"] * 512])])
def test_features_of_another_shape_are_named(folder: Path, values: np.ndarray) -> None:
    with h5py.File(_file(folder, "video7001"), "a") as file:
        del file["features.face"]
        file["features.face"] = values
    dataset = open_dataset(f"msrvtt:{folder}")
    with pytest.raises(
        UserError, match=r"video7001\.h5: features\.face is .*; expected vectors of 512 numbers"
    ):
        cells(dataset, "face")
