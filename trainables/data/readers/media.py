"""Which files are pictures and which are sounds, by the ends of their names."""

from __future__ import annotations

import re

#: The names of files of each kind. Those that cannot be decoded are here, too, so that they are not passed
#: over in silence.
_MEDIA = {
    "image": re.compile(
        r".*\.(apng|avif|bmp|dib|gif|hei[cf]|ico|j2k|jfif|jp2|jpe|jpe?g|jxl|p[bgnp]m|pcx|png|svg|tga|tiff?|webp)",
        re.IGNORECASE | re.DOTALL,
    ),
    "audio": re.compile(
        r".*\.(aac|aif[cf]?|aiff|au|caf|flac|m4a|mp3|og[ag]|opus|w64|wave?|wma)", re.IGNORECASE | re.DOTALL
    ),
}


def media_kind(name: str) -> str | None:
    """Return the kind of a file, or None if it is neither a picture nor a sound.

    Example:
        >>> media_kind("cat/1.JPG"), media_kind("notes.txt")
        ('image', None)
    """
    return next((kind for kind, names in _MEDIA.items() if names.fullmatch(name)), None)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is one that systems leave behind, such as ``.DS_Store``."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def is_metadata(name: str) -> bool:
    """Return whether a file has the name of a table about the files beside it."""
    return name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")
