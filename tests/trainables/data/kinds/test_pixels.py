"""Pictures of every sort become the square that they show, in bounded time and memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from trainables.data.kinds import pixels
from trainables.data.kinds.base import UnreadableError
from trainables.data.kinds.pixels import square

WHITE, BLUE = (255, 255, 255), (0, 0, 255)
SIDE = 32
RAMP = np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture's file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    """Return random pixels (H, W, C)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _smooth(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(8, 6)).resize((width, height), Image.Resampling.BICUBIC)


def _off(found: np.ndarray, expected: Any) -> int:
    return int(np.abs(found.astype(int) - np.asarray(expected).astype(int)).max())


@pytest.mark.parametrize("size", [(40, 32), (30, 90), (500, 400), (7, 3)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_ordinary_pictures_are_resized_whole_and_cropped(size: tuple[int, int], kind: str) -> None:
    data = encoded(noise(*size), kind)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    scale = SIDE / min(size)
    resized = whole.resize([max(SIDE, round(side * scale)) for side in size], Image.Resampling.BICUBIC)
    left, top = ((side - SIDE) // 2 for side in resized.size)
    assert _off(square(data, SIDE, WHITE), resized.crop((left, top, left + SIDE, top + SIDE))) == 0


@pytest.mark.parametrize("size", [(2000, 40), (40, 2000), (2000, 100)])
def test_of_a_long_picture_only_the_square_is_resized(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(_smooth(*size))
    found = square(data, SIDE, WHITE)
    monkeypatch.setattr(pixels, "_LONG", 10**6)
    assert _off(found, square(data, SIDE, WHITE)) <= 1


def test_a_thin_line_is_a_moment() -> None:
    """Enlarged whole, it would have 1.4 TB."""
    data = encoded(Image.new("RGB", (100_000, 1), (9, 9, 9)))
    assert (square(data, 224, WHITE) == 9).all()


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) * 30 - 1000,
        RAMP.astype(np.int32),
        (RAMP * 257).astype(np.int32),
        (RAMP * 9000 - 70_000).astype(np.int32),
        (RAMP * 257).astype(np.uint16),
        (RAMP * 257).astype(">u2"),
    ],
    ids=["unit float", "byte float", "float", "byte int", "16-bit int", "int", "16 bit", "big-endian"],
)
def test_grey_values_of_more_than_8_bits_are_scaled(values: np.ndarray) -> None:
    found = square(encoded(values, "TIFF"), SIDE, WHITE)
    assert (found == found[..., :1]).all()
    assert _off(found[..., 0], RAMP.round()) <= 1


def test_grey_png_of_16_bits() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (SIDE, SIDE), dtype=np.uint16)
    assert _off(square(encoded(values), SIDE, WHITE)[..., 0], values >> 8) == 0


def test_unsigned_32_bit_integers() -> None:
    values = (RAMP / 255 * (2**32 - 1)).astype(np.uint32)
    file = bytearray(encoded(values.view(np.int32), "TIFF"))
    # The tag 339, a short, says 2 for signed
    place = file.index(b"\x53\x01\x03\x00\x01\x00\x00\x00\x02")
    file[place + 8] = 1
    assert _off(square(bytes(file), SIDE, WHITE)[..., 0], RAMP.round()) <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_is_refused(value: float) -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[2, 1] = value
    with pytest.raises(UnreadableError, match="a pixel that is no number"):
        square(encoded(values, "TIFF"), SIDE, WHITE)


@pytest.mark.parametrize(
    ("mode", "kind", "off"),
    [("CMYK", "TIFF", 0), ("YCbCr", "TIFF", 8), ("LAB", "TIFF", 20), ("P", "PNG", 60), ("RGBA", "PNG", 0)],
)
def test_modes_of_color(mode: str, kind: str, off: int) -> None:
    picture = _smooth(SIDE, SIDE)
    if mode == "LAB":
        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        changed: Any = ImageCms.profileToProfile(picture, rgb, lab, outputMode="LAB")
    else:
        changed = picture.convert(mode)
    assert _off(square(encoded(changed, kind), SIDE, WHITE), picture) <= off


def _icon(mode: str) -> Image.Image:
    """Return a black square whose middle is opaque; its shape is in the alpha channel alone."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    alpha[8:24, 8:24] = 255
    alpha[:, :2] = 102
    icon = Image.new("L" if mode == "LA" else "RGB", (SIDE, SIDE), 0)
    icon.putalpha(Image.fromarray(alpha))
    return icon if mode in ("LA", "RGBA") else icon.quantize()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("background", [WHITE, BLUE])
def test_what_is_transparent_is_laid_on_the_background(mode: str, background: tuple[int, int, int]) -> None:
    found = square(encoded(_icon(mode)), SIDE, background)
    assert found[5, 5].tolist() == list(background)
    assert found[16, 16].tolist() == [0, 0, 0]
    assert found[16, 0].tolist() == [value * 3 // 5 for value in background], "two fifths opaque"


@pytest.mark.parametrize(
    ("image", "transparent"),
    [
        (Image.new("RGB", (8, 8), (10, 20, 30)), (10, 20, 30)),
        (Image.new("L", (8, 8), 7), 7),
        (Image.new("1", (8, 8), 1), 1),
        (Image.fromarray(np.full((8, 8), 300, np.uint16)), 300),
    ],
    ids=["RGB", "L", "1", "I;16"],
)
def test_a_transparent_color(image: Image.Image, transparent: Any) -> None:
    data = encoded(image, transparency=transparent)
    assert (square(data, 8, (9, 8, 7)) == [9, 8, 7]).all()


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA"])
def test_modes_that_only_other_formats_have(mode: str) -> None:
    clear = Image.new({"La": "LA", "RGBa": "RGBA", "PA": "PA"}[mode], (8, 8), 0).convert(mode)
    assert pixels._rgb(clear, b"", BLUE).getpixel((4, 4)) == BLUE


def test_orientation_is_that_of_the_exif_data() -> None:
    picture = noise(SIDE, SIDE)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert _off(square(encoded(picture, exif=exif), SIDE, WHITE), np.rot90(picture, -1)) == 0


@pytest.mark.parametrize("large", [False, True])
def test_a_tiff_file_turns_as_it_is_loaded(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, exif = noise(2 * SIDE, SIDE), Image.Exif()
    exif[0x0112] = 6
    if large:
        monkeypatch.setattr(pixels, "_LARGE", 1)
    turned = np.rot90(picture, -1)[SIDE // 2 : SIDE // 2 + SIDE]
    assert _off(square(encoded(picture, "TIFF", exif=exif), SIDE, WHITE), turned) == 0


@pytest.mark.parametrize(("orientation", "off"), [(1, 2), (6, 8)])
def test_a_large_jpeg_is_decoded_in_a_smaller_size(
    orientation: int, off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(_smooth(1203, 901), "JPEG", quality=95, exif=exif)
    full = square(data, SIDE, WHITE)
    monkeypatch.setattr(pixels, "_LARGE", 10**6)
    resized, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *how: (resized.append(self.size), resize(self, *how))[1]
    )
    assert _off(square(data, SIDE, WHITE), full) <= off
    assert sorted(resized[0]) == [113, 151]


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (encoded(noise(64, 64))[:2000], "a PNG picture that is cut off", "ends after 2,000 bytes"),
        (encoded(noise(64, 64), "JPEG")[:-300], "a JPEG picture that is cut off", "ends after "),
        (encoded(noise(64, 64), "GIF")[:900], "a GIF picture that is cut off", "ends after 900 bytes"),
        (encoded(noise(64, 64), "BMP")[:900], "a BMP picture that is cut off", "has 900 of 12,342 bytes"),
        (encoded(noise(64, 64), "WEBP")[:900], "a WebP picture that is cut off", "has 900 of "),
        (encoded(noise(64, 64), "TIFF")[:900], "a TIFF picture that is damaged", "truncated"),
        (
            encoded(noise(64, 64)).replace(b"IDAT", b"IDOT"),
            "a PNG picture that is damaged or cannot be decoded here",
            "",
        ),
        (encoded(Image.new("1", (20_000, 10_000))), "more pixels than Pillow decodes", "200000000 pixels"),
        (b"<!doctype html><title>404</title>", "HTML", ""),
    ],
)
def test_what_is_no_picture_says_what_it_is(data: bytes, reason: str, detail: str) -> None:
    with pytest.raises(UnreadableError) as error:
        square(data, SIDE, WHITE)
    assert error.value.content.reason == reason
    assert detail in error.value.content.detail


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_corrupt_avif() -> None:
    content = bytearray(encoded(noise(64, 64), "AVIF"))
    start = content.index(b"mdat") + 4
    content[start:] = bytes(len(content) - start)
    with pytest.raises(UnreadableError, match="an AVIF picture that is damaged"):
        square(bytes(content), SIDE, WHITE)
