"""What a user may give as a value: it has the content that a dataset's cell with it would have."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.kinds import KINDS, Unreadable
from trainables.data.kinds.pixels import square

WHITE = (255, 255, 255)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _noise(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
    return Image.fromarray(pixels, "RGBA").convert(mode)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_a_missing_value(kind: str) -> None:
    assert KINDS[kind].content(None) is None


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_files_are_given_as_bytes_paths_or_base64(kind: str, tmp_path: Path) -> None:
    data = _saved(_noise("RGB"), "PNG")
    (tmp_path / "file").write_bytes(data)
    text = base64.b64encode(data).decode()
    given = (data, bytearray(data), tmp_path / "file", str(tmp_path / "file"), text)
    for value in (*given, f"data:image/png;base64,{text}"):
        assert KINDS[kind].content(value) == data


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F", "YCbCr"])
def test_pictures_of_pillow_keep_all_pixels(mode: str) -> None:
    picture = _noise(mode)
    found = KINDS["image"].content(picture)
    assert isinstance(found, bytes)
    file = _saved(picture, "TIFF") if mode != "P" else _saved(picture, "PNG")
    assert np.array_equal(square(found, 16, WHITE), square(file, 16, WHITE))


def test_pictures_of_pillow_keep_their_orientation() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    data = _saved(_noise("RGB"), "PNG", exif=turned)
    found = KINDS["image"].content(Image.open(io.BytesIO(data)))
    assert isinstance(found, bytes)
    assert np.array_equal(square(found, 16, WHITE), square(data, 16, WHITE))


def test_features_are_vectors_in_float32() -> None:
    features = KINDS["features"]
    for value in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), torch.tensor([[1.0, 2], [3, 4]])):
        found = features.content(value)
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        assert found.tolist() == [[1, 2], [3, 4]]
    one = features.content([1.5, 2])
    assert isinstance(one, np.ndarray)
    assert one.tolist() == [[1.5, 2]]
    assert features.content([]) is None


@pytest.mark.parametrize(
    ("kind", "value", "reason", "detail"),
    [
        ("text", 3, "a value of the type int", "accepted: a text"),
        ("image", 3, "a value of the type int", "accepted: a path or bytes, or a PIL.Image.Image"),
        ("audio", 3, "a value of the type int", "accepted: a path or bytes"),
        ("image", "nowhere.png", "a file that cannot be opened", "nowhere.png: No such file or directory"),
        ("image", "data:image/png;base64,a", "a base64 text that is damaged", ""),
        ("features", "abc", "a value of the type str", "accepted: an array of one or two dimensions"),
        (
            "features",
            [[1], [2, 3]],
            "a value of the type list",
            "accepted: an array of one or two dimensions",
        ),
        ("features", 3.5, "an array of other than one or two dimensions", "a single number"),
        ("features", [np.inf], "a number that is not finite", ""),
    ],
)
def test_what_is_no_value_says_what_would_be(kind: str, value: Any, reason: str, detail: str) -> None:
    assert KINDS[kind].content(value) == Unreadable(reason, detail)


def test_a_picture_whose_file_is_cut_off_is_unreadable() -> None:
    data = _saved(_noise("RGB").resize((300, 300)), "PNG")
    found = KINDS["image"].content(Image.open(io.BytesIO(data[: len(data) // 2])))
    assert isinstance(found, Unreadable)
    assert found.reason == "a picture that cannot be decoded"
