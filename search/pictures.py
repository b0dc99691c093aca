"""Figures for picture files, which change no state of the process and open no window; small pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure with axes: ``matplotlib.figure.Figure`` and ``matplotlib.axes.Axes``.

    The figure is made without pyplot, which would keep it until it is closed, and whose backend belongs to
    the whole process.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160)
    return figure, figure.subplots()


def opened_picture(data: bytes, background: Sequence[int], side: int) -> Image | None:
    """Return a picture in red, green and blue, of a size to look at; None if it cannot be decoded.

    Args:
        data: The bytes of its file.
        background: What a transparent picture is laid on: red, green and blue.
        side: Its largest side in pixels.
    """
    import PIL.Image
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd about a file
            with PIL.Image.open(io.BytesIO(data)) as stored:
                stored.draft("RGB", (side, side))
                picture = ImageOps.exif_transpose(stored)
                picture.thumbnail((side, side))
                if picture.has_transparency_data:
                    picture = picture.convert("RGBA")
                    behind = PIL.Image.new("RGBA", picture.size, tuple(background))
                    picture = PIL.Image.alpha_composite(behind, picture)
                return picture.convert("RGB")
    except Exception:  # what damaged files raise has no class in common
        return None
