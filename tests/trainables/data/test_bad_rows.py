"""Rows that cannot be read: found in one pass, said in one message, and left out or taken as missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.trainables.data.kinds.test_pixels import encoded, noise
from tests.trainables.data.test_audio import tone, wav
from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.cache.entries import entries_of
from trainables.data import SPLITS, PreparedData, bad_rows_as, in_words, open_dataset, prepare
from trainables.data.bad_rows import BadRow, by_reason
from trainables.data.cells import BLANK
from trainables.data.few import Few
from trainables.data.kinds import Unreadable, pixels
from trainables.errors import UserError
from trainables.reading_settings import BAD_ROWS, ReadingSettings
from trainables.towers import EncoderSource, InputSizes, resolve_encoder

HTML = b"<!doctype html><title>404</title>"
CUT = encoded(noise(30, 30), "JPEG")[:-300]
IMAGES = [png(), b"", HTML, png((0, 255, 0)), CUT, HTML, None, b"", b"", b""]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten training rows, of which seven cannot be read and one lacks its picture; and a bad test row."""
    train = columns(10, image=IMAGES, label=list("aabbaabbab"))
    return write_dataset(tmp_path / "d", train=train, test=columns(image=[png(), HTML, png()]))


def _prepare(
    folder: Path, encoders: dict[str, EncoderSource], bad_rows: str = "error", **options: Any
) -> PreparedData:
    sizes = InputSizes(text_length=6, image_size=8, audio_seconds=0.1)
    reading = ReadingSettings(bad_rows=bad_rows)
    return prepare(open_dataset(str(folder)), encoders, sizes, reading=reading, **options)


def test_one_message_names_all_by_reason(folder: Path, encoders: dict[str, EncoderSource]) -> None:
    with pytest.raises(UserError) as error:
        _prepare(folder, encoders)
    assert str(error.value) == (
        f"dataset '{folder}': 8 of 16 rows cannot be read: "
        "4 pictures: empty, 0 bytes (train row 1; train row 7; train row 8; 1 more), "
        "3 pictures: HTML (train row 2; train row 5; test row 1), "
        f"1 picture: a JPEG picture that is cut off (train row 4, ends after {len(CUT):,} bytes). "
        "--bad-rows skip leaves such rows out; --bad-rows missing takes what cannot be read as missing, "
        "and --missing says what becomes of it"
    )


def test_nothing_is_decoded_again(
    folder: Path, encoders: dict[str, EncoderSource], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError):
        _prepare(folder, encoders)
    monkeypatch.setattr(pixels.PIL.Image, "open", None)
    keys = {_prepare(folder, encoders, bad_rows).key for bad_rows in ("skip", "missing")}
    with pytest.raises(UserError, match="8 of 16 rows"):
        _prepare(folder, encoders)
    assert [path.name for path in entries_of(cache / "prepared")] == list(keys)


def test_skip_leaves_them_out(folder: Path, encoders: dict[str, EncoderSource]) -> None:
    data = _prepare(folder, encoders, "skip")
    assert [len(data.split(split)) for split in SPLITS] == [3, 3, 2]
    assert data.unreadable == 8
    train = data.split("train")
    assert train.labels.tolist() == [0, 1, 1]
    assert train.present("image").tolist() == [True, True, False], "a missing value is no bad one"
    green = train.inputs("image", torch.tensor([1]))["pixel_values"]
    assert green[0, 1].min() > green[0, 0].max()
    assert data.missing_shares == {"text": 0, "image": pytest.approx(1 / 8)}


def test_missing_takes_a_blank(folder: Path, encoders: dict[str, EncoderSource]) -> None:
    data = _prepare(folder, encoders, "missing")
    assert [len(data.split(split)) for split in SPLITS] == [10, 3, 3]
    assert data.unreadable == 8
    train = data.split("train")
    there = [True, False, False, True, False, False, False, False, False, False]
    assert train.present("image").tolist() == there
    assert train.present("text").all()
    assert train.index["image"][1] == train.index["image"][6] == BLANK
    assert data.missing_shares["image"] == pytest.approx(9 / 16)


@pytest.mark.parametrize("few", [None, Few(2, 0)])
def test_features_of_other_cells_have_other_keys(
    folder: Path, encoders: dict[str, EncoderSource], few: Few | None
) -> None:
    skip, missing = (_prepare(folder, encoders, how, few=few) for how in ("skip", "missing"))
    assert skip.key_of("train") != missing.key_of("train")
    assert skip.key_of("validation") == missing.key_of("validation"), "no row of it is bad"
    assert len(skip.split("train")) == (2 if few else 3)


def test_bad_rows_that_count_as_missing_are_treated_so() -> None:
    assert [bad_rows_as("missing", how) for how in ("blank", "skip", "error")] == ["missing", "skip", "error"]
    assert [bad_rows_as(how, "blank") for how in BAD_ROWS] == [*BAD_ROWS]
    assert bad_rows_as("error", "skip") == "error"


@pytest.mark.parametrize(
    ("bad_rows", "images", "says"),
    [
        ("skip", [HTML, b"", HTML], "can be read: 2 pictures: HTML"),
        ("skip", [HTML, b"", None], "has image that can be read: 1 picture: HTML"),
        ("missing", [HTML, b"", None], "has image that can be read: 1 picture: HTML"),
    ],
)
def test_a_split_without_a_row_that_can_be_read(
    tmp_path: Path, encoders: dict[str, EncoderSource], bad_rows: str, images: list[Any], says: str
) -> None:
    folder = write_dataset(tmp_path / "e", test=columns(image=images))
    with pytest.raises(UserError, match=f"--bad-rows {bad_rows}: .*: no row of the test split {says}"):
        _prepare(folder, encoders, bad_rows)


def test_files_are_named(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    folder = tmp_path / "d"
    (folder / "img").mkdir(parents=True)
    (folder / "img" / "a.png").write_bytes(png())
    (folder / "img" / "b.png").write_bytes(b"")
    paths = ["img/a.png", "img/b.png", "img/c.png", "img", ".", "img/\0"]
    write_dataset(folder, train=columns(6, image=paths))
    with pytest.raises(UserError) as error:
        _prepare(folder, encoders)
    assert "1 picture: empty, 0 bytes (train row 1, img/b.png)" in str(error.value)
    assert f"no such file in {folder} (train row 2, img/c.png; train row 5, img/\\x00)" in str(error.value)
    assert "2 pictures: a folder, not a file (train row 3, img; train row 4, .)" in str(error.value)
    assert len(_prepare(folder, encoders, "skip").split("train")) == 1


def test_sounds_and_features(tmp_path: Path, tiny_encoders: dict[str, Path]) -> None:
    vectors = [[1.0, 2.0], [3.0], [np.nan, 1.0], [5.0, 6.0], None]
    sounds = [wav(tone()), b"no sound", wav(tone()), None, wav(tone())]
    content = columns(5, text=None, image=None, audio=sounds, face=pa.array(vectors, pa.list_(pa.float32())))
    metadata = {"paretofuse.modalities": json.dumps({"audio": "audio", "face": "face"})}
    folder = write_dataset(tmp_path / "d", metadata, **dict.fromkeys(SPLITS, content))
    encoders = {
        "audio": resolve_encoder("audio", str(tiny_encoders["whisper"])),
        "face": resolve_encoder("face", "features:dim=2"),
    }
    with pytest.raises(UserError) as error:
        _prepare(folder, encoders)
    for part in (
        "6 of 15 rows",
        "3 sounds: text (train row 1, begins with b'no sound'; validation row 1, ",
        "3 values of face: a vector of other than 2 numbers (train row 1, 1 numbers;",
        "3 values of face: a number that is not finite (train row 2;",
    ):
        assert part in str(error.value)
    train = _prepare(folder, encoders, "missing").split("train")
    assert train.present("face").tolist() == [True, False, False, True, False]
    assert train.present("audio").tolist() == [True, False, True, False, True]
    good = train.inputs("face", torch.tensor([0, 3]))["features"][:, 0]
    assert torch.allclose(good, torch.tensor([[-1.0, -1.0], [1.0, 1.0]])), "bad ones have no part in the mean"
    assert len(_prepare(folder, encoders, "skip").split("train")) == 3


def test_vectors_of_different_sizes_in_one_cell(tmp_path: Path) -> None:
    metadata = {"paretofuse.modalities": json.dumps({"face": "face"})}
    cells = pa.array([[[1.0, 2.0]], [[1.0, 2.0], [3.0]]], pa.list_(pa.list_(pa.float32())))
    content = columns(2, face=cells)
    folder = write_dataset(tmp_path / "d", metadata, **dict.fromkeys(SPLITS, content))
    message = r"vectors of different sizes \(train row 1, 1 and 2 numbers; validation row 1, 1 and 2 numbers;"
    with pytest.raises(UserError, match=message):
        _prepare(folder, {"face": resolve_encoder("face", "features:dim=2")})


def test_rows_count_over_lots_and_shards_and_equal_cells(
    tmp_path: Path, encoders: dict[str, EncoderSource]
) -> None:
    first = columns(600, image=[png((i % 256, i // 256, 0), (2, 2)) for i in range(600)])
    second = columns(4, image=[HTML, png(), HTML, b""])
    folder = write_dataset(tmp_path / "d", train_0=first, train_1=second)
    with pytest.raises(UserError, match=r"2 pictures: HTML \(train row 600; train row 602\), 1 .*row 603\)"):
        _prepare(folder, encoders)


def test_a_warning_names_its_row_and_is_not_printed_raw(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    folder = write_dataset(
        tmp_path / "d", train=columns(image=[png(), png(size=(120, 100)), png(size=(120, 110))])
    )
    _prepare(folder, encoders)
    said = capfd.readouterr().err
    assert "read with warnings: 2 pictures: Image size (# pixels) exceeds limit" in said
    assert "(train row 1; train row 2)" in said
    assert "DecompressionBombWarning" not in said


def test_backgrounds(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    clear = encoded(Image.new("RGBA", (8, 8), 0))
    folder = write_dataset(tmp_path / "d", train=columns(image=[png(), clear, png()]))
    dataset, sizes = open_dataset(str(folder)), InputSizes(text_length=6, image_size=8)

    def pixel(background: str) -> torch.Tensor:
        data = prepare(dataset, encoders, sizes, reading=ReadingSettings(background=background))
        return data.split("train").cells["image"]._taken(torch.tensor([2]), ["pixels"])["pixels"][0, 0, 0]

    assert pixel("white").tolist() == [255, 255, 255]
    assert pixel("#102030").tolist() == [16, 32, 48]
    for wrong in ("whitish", "#12", "#10203040"):
        with pytest.raises(UserError, match=f"--background {wrong}: is no color; give a name such as white"):
            pixel(wrong)


def test_a_search_says_how_many(folder: Path, encoders: dict[str, EncoderSource]) -> None:
    dataset = open_dataset(str(folder))

    def said(bad_rows: str) -> str:
        data = _prepare(folder, encoders, bad_rows)
        return in_words(dataset, encoders, {split: len(data.split(split)) for split in SPLITS}, data)

    assert "rows: 3 train, 3 validation, 2 test (8 left out: cannot be read); " in said("skip")
    counts = (
        "rows: 10 train, 3 validation, 3 test (8 with a value that cannot be read and counts as missing); "
    )
    assert counts in said("missing")
    assert "image (vit, pooling cls, 56 % missing)" in said("missing")


def test_a_struct_without_bytes_is_refused(tmp_path: Path) -> None:
    content = columns(image=[{"data": png(), "width": 40}] * 3)
    folder = write_dataset(tmp_path / "d", **dict.fromkeys(SPLITS, content))
    message = r"column 'image' is struct<data: binary, width: int64>; expected .* a struct with bytes or path"
    with pytest.raises(UserError, match=message):
        open_dataset(str(folder))


def test_a_message_names_a_dozen_reasons(folder: Path) -> None:
    bad = [BadRow("train", number % 10, "image", Unreadable(f"why {number}")) for number in range(40)]
    said = by_reason(open_dataset(str(folder)), bad)
    assert "1 picture: why 11 (train row 1), and 28 more reasons" in said
    assert "why 12 " not in said
