"""Decodes a picture's file to a square of RGB pixels."""

from __future__ import annotations

import contextlib
import io
import threading

import numpy as np
import PIL.Image
from PIL import ImageOps

from trainables.data.kinds.base import Unreadable, UnreadableError, not_decoded

#: Pictures with more pixels than this are decoded one at a time, and JPEG files of them in a smaller size.
_LARGE = 2**24
_alone = threading.Lock()

#: A resized picture that is larger than this many of its squares is never made: only the square is.
_LONG = 8

#: The modes of pictures that have one number of more than 8 bits for each pixel.
_NUMBERS = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

#: The modes of pictures that a PNG file stores as they are.
_OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

_UNSIGNED, _BITS, _FORMAT = 1, 258, 339  # a sample format, and two tags, of the TIFF specification


def square(data: bytes, size: int, background: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of a picture, resized to a shorter side of ``size`` and cropped at the centre.

    The orientation in the EXIF data is applied. Of an animation, the first picture is taken. What is
    transparent is laid on the background.

    Grey values of 16 bits, or of the 9 to 16 bits that a TIFF file states, are scaled from their whole range.
    Formats do not say how bright 32-bit integers and floats are. Floats from 0 to 1 and numbers from 0 to 255
    are taken as they are, integers from 0 to 65535 as values of 16 bits, and the numbers of any other picture
    are scaled from its smallest to its largest.

    Args:
        data: The file.
        size: Side of the square in pixels.
        background: Red, green and blue from 0 to 255.

    Returns:
        The pixels, shape (``size``, ``size``, 3), uint8.

    Raises:
        UnreadableError: If the file is no picture that Pillow decodes to its end. It says what it is.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as stored:
            large = stored.width * stored.height > _LARGE
            with _alone if large else contextlib.nullcontext():
                width, height = stored.size
                drafted = stored.draft(None, (2 * size, 2 * size)) if large else None
                shrunk = round(width / drafted[1][2]) if drafted else 1
                stored.load()
                if shrunk == 1:  # some formats have their size, and TIFF its orientation, only now
                    width, height = stored.size
                with contextlib.suppress(Exception):  # damaged EXIF data say nothing of an orientation
                    ImageOps.exif_transpose(stored, in_place=True)
                # turned by a quarter, if it is
                turned = (stored.width < stored.height) != (width < height)
                whole = (height, width) if turned else (width, height)
                return _cropped(_rgb(stored, data, background), whole, shrunk, size)
    except (UnreadableError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise too_large(error) from error
    except Exception as error:  # what damaged files raise has no class in common
        raise not_decoded(data, "picture", error) from error


def as_file(picture: PIL.Image.Image) -> bytes | Unreadable:
    """Return a picture as a file that has all of its pixels, its transparency and its orientation."""
    file = io.BytesIO()
    try:
        if picture.mode in _OF_PNG:
            picture.save(file, "PNG", exif=picture.getexif(), compress_level=1)
        else:
            picture.save(file, "TIFF", exif=picture.getexif())
    except Exception as error:  # what pictures raise whose file is damaged has no class in common
        return Unreadable("a picture that cannot be decoded", " ".join(str(error).split()))
    return file.getvalue()


def too_large(error: PIL.Image.DecompressionBombError) -> UnreadableError:
    """Return the error for a picture that Pillow refuses for its size."""
    return UnreadableError("more pixels than Pillow decodes", str(error).partition(",")[0])


def _cropped(picture: PIL.Image.Image, whole: tuple[int, int], shrunk: int, size: int) -> np.ndarray:
    """Return the resized square in the middle of a picture.

    Args:
        picture: The picture.
        whole: Its width and height before it was shrunk.
        shrunk: The factor by which it was.
        size: Side of the square.
    """
    scale = size / min(whole)
    width, height = (max(size, round(side * scale)) for side in whole)
    left, top = (width - size) // 2, (height - size) // 2
    bicubic = PIL.Image.Resampling.BICUBIC
    if shrunk == 1 and width * height <= _LONG * size**2:
        resized = picture.resize((width, height), bicubic).crop((left, top, left + size, top + size))
    else:
        x, y = whole[0] / width / shrunk, whole[1] / height / shrunk
        box = left * x, top * y, (left + size) * x, (top + size) * y
        resized = picture.resize((size, size), bicubic, box)
    return np.asarray(resized)


def _rgb(image: PIL.Image.Image, data: bytes, background: tuple[int, int, int]) -> PIL.Image.Image:
    if image.mode in _NUMBERS:
        return _of_numbers(image, background)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.format == "PNG":
        _scale_transparent_color(image, data[24])
    if image.mode == "La":
        image = image.convert("LA")
    blended = PIL.Image.new("RGB", image.size, background)
    with_alpha = image.convert("RGBA")
    blended.paste(with_alpha, mask=with_alpha)
    return blended


def _scale_transparent_color(image: PIL.Image.Image, bits: int) -> None:
    """Bring the color that a PNG file declares transparent to the 8 bits of the decoded pixels."""
    color = image.info.get("transparency")
    if isinstance(color, tuple):
        image.info["transparency"] = tuple(value * 255 // (2**bits - 1) for value in color)
    elif isinstance(color, int) and image.mode == "L":
        image.info["transparency"] = color * 255 // (2**bits - 1)


def _of_numbers(image: PIL.Image.Image, background: tuple[int, int, int]) -> PIL.Image.Image:
    """Return a picture with one number for each pixel as RGB."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        grey = _of_floats(values)
    elif image.mode == "I":
        unsigned = image.format == "TIFF" and tags.get(_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
        grey = _of_integers(values.view(np.uint32) if unsigned else values)
    else:
        bits = tags.get(_BITS, (16,))[0]
        grey = (values >> (bits - 8)).astype(np.uint8)
    picture = PIL.Image.fromarray(grey).convert("RGB")
    if (color := image.info.get("transparency")) is not None:
        picture.paste(background, mask=PIL.Image.fromarray(values == color))
    return picture


def _of_integers(values: np.ndarray) -> np.ndarray:
    least, most = values.min(), values.max()
    if least < 0 or most > 0xFFFF:
        return _stretched(values)
    return (values if most <= 0xFF else values >> 8).astype(np.uint8)


def _of_floats(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise UnreadableError("a pixel that is no number")
    least, most = values.min(), values.max()
    if least < 0 or most > 255:
        return _stretched(values)
    return np.round(values * 255 if most <= 1 else values).astype(np.uint8)


def _stretched(values: np.ndarray) -> np.ndarray:
    least, span = float(values.min()), float(values.max()) - float(values.min())
    return np.round((values.astype(np.float64) - least) * (255 / (span or 1))).astype(np.uint8)
