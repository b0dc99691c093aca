"""A sheet of a dataset's rows: their pictures with texts and labels."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.pictures import new_figure, opened_picture
from trainables.data.understood import Example

_COLUMNS = 6

#: Largest side of a picture in pixels, and width and height of a row's place in inches.
_PIXELS = 320
_WIDTH, _PICTURE, _LINE = 2.0, 1.75, 0.15

_LETTERS, _LINES = 30, 4  # of a text
_QUIET, _FRAME = "#6b7280", "#d1d5db"


def plot_sheet(rows: Sequence[Example], path: Path, title: str, background: Sequence[int]) -> None:
    """Draw rows with the first picture, the texts and the label of each.

    Args:
        rows: The rows, at least one.
        path: Picture to write.
        title: Title above the rows.
        background: What transparent pictures are laid on: red, green and blue.
    """
    pictures = any(row.pictures for row in rows)
    texts = [[_wrapped(text) for text in row.texts.values()] for row in rows]
    most = max((len(text) + 1 for of_row in texts for text in of_row), default=0)
    several = max(map(len, texts))
    columns = min(_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    below = _LINE * (2 + most * several)
    height = (_PICTURE if pictures else 0) + below
    figure, axes = new_figure(columns * _WIDTH, lines * height + 0.5)
    axes.set_xlim(0, columns * _WIDTH)
    axes.set_ylim(lines * height, -0.5)
    axes.set_position((0, 0, 1, 1))
    axes.axis("off")
    axes.text(0.12, -0.2, _fitting(title, 15 * columns), size=11, weight="bold", va="center")
    for number, row in enumerate(rows):
        left, top = number % columns * _WIDTH + 0.12, number // columns * height
        if pictures:
            data = next(iter(row.pictures.values()), None)
            _draw_picture(axes, data, left, top, background)
            top += _PICTURE
        axes.text(left, top + 0.06, _fitting(_words(row.label), 25), size=8, weight="bold", va="top")
        for place, text in enumerate(texts[number]):
            at = top + 0.26 + place * most * _LINE
            axes.text(left, at, "\n".join(text), size=6.5, va="top", linespacing=1.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure.savefig(path)


def _draw_picture(axes: Any, data: bytes | None, left: float, top: float, background: Sequence[int]) -> None:
    """Draw a picture into its place, whole and centred."""
    from matplotlib.patches import Rectangle

    side_x, side_y = _WIDTH - 0.24, _PICTURE - 0.1
    picture = None if data is None else opened_picture(data, background, _PIXELS)
    if picture is None:
        words = "no picture" if data is None else "cannot be read"
        axes.text(left + side_x / 2, top + side_y / 2, words, size=7, color=_QUIET, ha="center", va="center")
        return
    scale = min(side_x / picture.width, side_y / picture.height)
    width, height = picture.width * scale, picture.height * scale
    x, y = left + (side_x - width) / 2, top + side_y - height
    axes.add_patch(Rectangle((x, y), width, height, fill=False, color=_FRAME, linewidth=0.6))
    axes.imshow(
        np.asarray(picture), extent=(x, x + width, y + height, y), aspect="auto", interpolation="antialiased"
    )


def _words(label: Any) -> str:
    """Return a label in words."""
    if isinstance(label, list):
        return ", ".join(map(_words, label)) or "(no tags)"
    return "" if label is None else f"{label:.4g}" if isinstance(label, float) else str(label)


def _wrapped(text: str | None) -> list[str]:
    """Return the lines of a text."""
    if text is None or not text.strip():
        return ["(no text)" if text is None else "(empty)"]
    return textwrap.wrap(_plain(text), _LETTERS, max_lines=_LINES, placeholder=" …")


def _fitting(text: str, letters: int) -> str:
    plain = _plain(text)
    return plain if len(plain) <= letters else plain[: letters - 1] + "…"


def _plain(text: str) -> str:
    """Return a text that is drawn as it is: without formulas, in one line."""
    return " ".join(text.split()).replace("$", r"\$")
