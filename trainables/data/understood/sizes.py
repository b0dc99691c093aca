"""The sizes of values as they are stored. Only the headers of files are read."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from trainables.data.contents import missing_end
from trainables.data.kinds import Content, Unreadable
from trainables.data.kinds.base import UnreadableError, not_decoded
from trainables.data.kinds.pixels import square, too_large

#: The sizes of a value of each kind.
SIZES: Mapping[str, tuple[str, ...]] = {
    "image": ("width", "height"),
    "audio": ("seconds",),
    "features": ("vectors", "numbers"),
    "text": (),
}

#: The percentiles that are shown of sizes, and of numbers of tokens.
OF_SIZES = (5, 50, 95)
OF_TOKENS = (50, 95, 99)


def size_of(kind: str, content: Content) -> tuple[float, ...] | Unreadable:
    """Return the sizes of a value, in the order of ``SIZES``, or why it cannot be read.

    Args:
        kind: Name of its kind.
        content: The value, which is not missing.
    """
    if isinstance(content, Unreadable):
        return content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are said with the rows when the data are prepared
            return _MEASURE[kind](content)
    except UnreadableError as error:
        return error.content


def percentiles(values: Sequence[float] | np.ndarray, shown: Sequence[int]) -> dict[str, float]:
    """Return percentiles of some values, each of which is one of the values, by percentage."""
    found = np.percentile(values, shown, method="higher")
    return {str(percentage): value.item() for percentage, value in zip(shown, found, strict=True)}


def _picture(data: bytes) -> tuple[float, ...]:
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            size = picture.size
    except PIL.Image.DecompressionBombError as error:
        raise too_large(error) from error
    except Exception as error:  # what damaged files raise has no class in common
        raise not_decoded(data, "picture", error) from error
    if missing_end(data):
        square(data, 1, (0, 0, 0))  # which refuses what is cut off; some have all their pixels
    return size


def _sound(data: bytes) -> tuple[float, ...]:
    import soundfile

    try:
        about = soundfile.info(io.BytesIO(data))
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise not_decoded(data, "sound", error) from error
    return (about.frames / about.samplerate,)


_MEASURE: Mapping[str, Callable[[Any], tuple[float, ...]]] = {
    "image": _picture,
    "audio": _sound,
    "features": lambda vectors: vectors.shape,
    "text": lambda _: (),
}
