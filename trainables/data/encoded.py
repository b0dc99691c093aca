"""Texts that encode the bytes of a file, in base64 or as a data URL."""

from __future__ import annotations

import base64
import re

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
#: How base64 texts of pictures and sounds begin: PNG, JPEG, GIF, RIFF, BMP, TIFF, FLAC, Ogg, MP3.
_BASE64 = re.compile(
    r"iVBORw0KGgo|/9j/|_9j_|R0lGOD|UklGR|Qk[0-9A-Za-z+/_-]{6}AAAA|SUkqA|TU0AK|ZkxhQ|T2dnU|SUQz"
)
_SHORTEST = 64  # characters of such a text
_LETTERS = re.compile(r"[A-Za-z0-9+/_=\s-]+")
_LOOKED_AT = 64  # characters whether they are such letters
_URL_SAFE = str.maketrans("-_", "+/")


def is_encoded(text: str) -> bool:
    """Return whether a text is no path but encodes a picture or sound, in base64 or as a data URL.

    Example:
        >>> is_encoded("data:image/gif;base64,R0lGODlh"), is_encoded("pictures/1.gif")
        (True, False)
    """
    if _DATA_URL.match(text):
        return True
    return bool(len(text) >= _SHORTEST and _BASE64.match(text) and _LETTERS.fullmatch(text[:_LOOKED_AT]))


def encoded_bytes(text: str) -> bytes:
    """Return the bytes that a text encodes, see ``is_encoded``.

    Raises:
        ValueError: If the text is damaged.
    """
    url = _DATA_URL.match(text)
    letters = "".join(text[url.end() if url else 0 :].split()).translate(_URL_SAFE)
    return base64.b64decode(letters, validate=True)
