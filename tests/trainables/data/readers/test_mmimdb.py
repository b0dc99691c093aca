"""MM-IMDB: which films and genres, and the HDF5 file."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data.readers.test_published import found, noted, rows
from trainables.data import open_dataset
from trainables.data.readers.mmimdb import GENRES
from trainables.errors import UserError
from trainables.testing.layouts import published


def test_the_genres_are_the_papers_and_in_their_order(tmp_path: Path) -> None:
    dataset = open_dataset(f"mmimdb:{published.write(tmp_path, published.mmimdb())}")
    assert dataset.kind == "multilabel"
    assert dataset.task.to_dict()["classes"] == list(GENRES)
    assert len(GENRES) == 23
    assert dataset.labels("train")[2].nonzero().flatten().tolist() == [0, 22]  # Drama, Film-Noir


def test_labels_txt_orders_them_in_another_way(tmp_path: Path) -> None:
    read = found("mmimdb", tmp_path, published.LAYOUTS["mmimdb"]["mope"]())
    assert json.loads(read.metadata["paretofuse.classes"]) == ["Drama", "Film-Noir", "Comedy", "Romance"]


def test_the_longest_plot_is_the_text(tmp_path: Path) -> None:
    assert rows(found("mmimdb", tmp_path, published.mmimdb()), "train")[1] == {
        "text": "The long story of film 1.",
        "image": "dataset/0000099.jpeg",
        "label": ["Comedy", "Romance"],
    }


def test_films_that_the_papers_leave_out(tmp_path: Path) -> None:
    files = published.mmimdb()
    for film, genre in {"0000098": "News", "0000100": "Adult", "0000107": "Talk-Show"}.items():
        files[f"dataset/{film}.json"]["genres"] = ["Drama", genre]
    files["dataset/0000104.json"]["genres"] = ["Western "]  # of the 23, but no film of train has it
    files["dataset/0000101.json"]["plot"] = []
    files["dataset/0000102.json"]["plot"] = ["", "  "]
    read = found("mmimdb", tmp_path, files)
    assert [len(rows(read, split)) for split in ("train", "validation", "test")] == [2, 2, 2]
    for note in (
        "left out: 1 of the genre News, which is none of the 23 (film 0000098)",
        "left out: 1 of the genre Adult, which is none of the 23 (film 0000100)",
        "left out: 1 of the genre Talk-Show, which is none of the 23 (film 0000107)",
        "left out: 1 of the genre Western, which no film of train has (film 0000104)",
        "left out: 2 without a plot (film 0000101, film 0000102)",
    ):
        assert note in noted(read)


def test_what_train_has_is_known_before_the_others_are_read(tmp_path: Path) -> None:
    files = published.mmimdb()
    files["split.json"] = dict(sorted(files["split.json"].items()))  # dev first
    assert len(rows(found("mmimdb", tmp_path, files), "validation")) == 3


def test_ids_with_other_zeros_name_the_same_films(tmp_path: Path) -> None:
    files = published.mmimdb()
    files["split.json"]["train"] = [98, "99", "00000100", *files["split.json"]["train"][3:]]
    files["dataset/101.json"] = files.pop("dataset/0000101.json")
    files["dataset/101.jpeg"] = files.pop("dataset/0000101.jpeg")
    images = [row["image"] for row in rows(found("mmimdb", tmp_path, files), "train")]
    assert images == [
        *(f"dataset/{film}.jpeg" for film in ("0000098", "0000099", "0000100", "101", "0000102", "0000103"))
    ]


def test_films_without_a_description_or_a_poster(tmp_path: Path) -> None:
    files = published.mmimdb()
    del files["dataset/0000098.json"], files["dataset/0000099.jpeg"]
    files["dataset/0000100.json"] = "{"
    files["dataset/0000101.json"] = {"plot": ["a"], "genres": "Drama"}
    with pytest.raises(UserError) as error:
        found("mmimdb", tmp_path, files)
    for part in (
        "rows cannot be read: 3",
        "1 without a file in dataset (train film 0000098)",
        "1 without JSON (dataset/0000100.json)",
        "1 with a text as 'genres' (dataset/0000101.json)",
    ):
        assert part in str(error.value)
    read = found("mmimdb", tmp_path, files, bad_rows="skip")
    # The poster is not missed before pictures are read, as in all datasets
    assert next(row["image"] for row in rows(read, "train")) == "dataset/0000099.jpeg"


@pytest.fixture
def hdf5(tmp_path: Path) -> Any:
    """Write the HDF5 file; ``change`` takes the open file."""
    return functools.partial(published.write_mmimdb_hdf5, tmp_path)


def _first_picture(address: str) -> np.ndarray:
    dataset = open_dataset(address)
    batch = next(iter(dataset.batches("validation", ["image"])))
    return np.asarray(Image.open(io.BytesIO(dataset.contents("image", batch)[0])))


def test_the_hdf5_file_has_pictures_features_and_genres(hdf5: Any) -> None:
    images = published.pixels()
    path = hdf5(images)
    dataset = open_dataset(f"mmimdb:{path.parent}")
    assert {name: each.kind for name, each in dataset.modalities.items()} == {
        "text": "features",
        "image": "image",
    }
    assert [dataset.count(split) for split in ("train", "validation", "test")] == [6, 3, 3]
    assert dataset.task.to_dict()["classes"] == ["Drama", "Comedy", "Romance"]
    assert dataset.labels("test").tolist() == np.eye(3)[[0, 1, 2]].tolist()
    np.testing.assert_array_equal(_first_picture(f"mmimdb:{path}"), images[6].transpose(1, 2, 0))
    assert "has no texts" in "; ".join(dataset.notes)


def test_pixels_that_were_made_for_caffe_become_colours(hdf5: Any) -> None:
    images = published.pixels()
    mean = np.array([103.939, 116.779, 123.68])[:, None, None]
    path = hdf5((images[:, ::-1].astype(np.float32) - mean).astype(np.int32))
    difference = _first_picture(f"mmimdb:{path}") - images[6].transpose(1, 2, 0)
    assert np.abs(difference).max() <= 1


def test_a_plot_without_known_words_is_missing(hdf5: Any) -> None:
    def change(file: Any) -> None:
        file["features"][1] = np.nan

    read = found("mmimdb", hdf5(published.pixels(), change).parent, {})
    assert [row["features"] is None for row in rows(read, "train")] == [False, True, *[False] * 4]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("images", None, "has no 'images'; it has features, genres"),
        (
            "images",
            np.zeros((12, 8, 6), np.int32),
            r"int32 of the shape \(12, 8, 6\); expected whole numbers of",
        ),
        ("images", np.zeros((11, 3, 8, 6), np.int32), r"the shape \(11, 3, 8, 6\); .* shape \(N, 3, H, W\)"),
        ("images", np.zeros((12, 3, 8, 6), np.float32), "'images' is float32 of .*; expected whole numbers"),
        ("genres", np.full((12, 3), 2), "'genres' has other values than 0 and 1"),
        ("genres", np.int32(3), "'genres' is int"),
        ("genres", np.zeros((12, 4), np.int32), "'genres' has 4 columns for 23 genres"),
        ("target_names", "[3]", "'target_names' is no JSON list of genres"),
        ("target_names", "{", "'target_names' is no JSON list of genres"),
        ("split", None, "has 12 films and no attribute 'split'"),
        ("split", [1, 2], "the attribute 'split' is none of Fuel's"),
    ],
)
def test_other_hdf5_files_are_refused(hdf5: Any, key: str, value: Any, message: str) -> None:
    def change(file: Any) -> None:
        attributes = {"split": file.attrs, "target_names": file["genres"].attrs}
        place = attributes.get(key, file)
        del place[key]
        if value is not None:
            place[key] = value

    path = hdf5(published.pixels(), change)
    with pytest.raises(UserError, match=message):
        found("mmimdb", path.parent, {})


def test_a_damaged_hdf5_file_is_refused(hdf5: Any) -> None:
    path = hdf5(published.pixels())
    written = path.read_bytes()
    for place in (40, 89, 900, 1700):
        path.write_bytes(written[:place] + b"\xff\xff\xff" + written[place + 3 :])
        with contextlib.suppress(UserError):  # or it changes nothing
            dataset = open_dataset(f"mmimdb:{path}")
            assert len(list(dataset.batches("test", ["image", "features", "label"])))
