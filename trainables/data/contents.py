"""What the bytes of a file are, in words, where they are not what they should be."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Literal

_START = 4096  # bytes at the beginning of a text that are looked at

#: The first bytes of pictures, by format. Pillow may lack some.
_PICTURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "Photoshop": (b"8BPS",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "FITS": (b"SIMPLE  =",),
    "icon": (b"\0\0\1\0",),
}

_SOUNDS = {
    "FLAC": (b"fLaC",),
    "Ogg": (b"OggS",),
    "MP3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "AMR": (b"#!AMR",),
    "AU": (b".snd", b"dns."),
    "CAF": (b"caff",),
    "NIST SPHERE": (b"NIST_1A",),
    "Sony Wave64": (b"riff\x2e\x91\xcf\x11",),
}

_VIDEOS = {
    "Matroska or WebM": (b"\x1a\x45\xdf\xa3",),
    "MPEG": (b"\0\0\1\xba", b"\0\0\1\xb3"),
    "Flash": (b"FLV\1",),
}

_OTHERS = {
    "PDF": (b"%PDF",),
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "a ZIP archive": (b"PK\3\4", b"PK\5\6"),
    "a document of Office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
    "a gzip file": (b"\x1f\x8b",),
    "a bzip2 file": (b"BZh",),
    "an xz file": (b"\xfd7zXZ\0",),
    "a Zstandard file": (b"\x28\xb5\x2f\xfd",),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c",),
    "a RAR archive": (b"Rar!\x1a\x07",),
    "a NumPy array": (b"\x93NUMPY",),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n",),
    "a Parquet file": (b"PAR1",),
    "an SQLite file": (b"SQLite format 3\0",),
    "a pickle": (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"),
    "a program": (b"\x7fELF", b"MZ\x90"),
}

#: What stands near the beginning of ZIP archives of some programs: names of members.
_ZIPPED = {
    "a document of Office": b"[Content_Types].xml",
    "a NumPy archive": b".npy",
}

#: Brands of files that are made of boxes, as HEIC, AVIF, MP4 and QuickTime are; others are videos.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_SOUND_BRANDS = {b"M4A ", b"M4B "}

#: How files end that are complete.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}

_TAIL = 64  # bytes at the end of a file among which its last ones are; some programs append a few

_ABOUT = 8  # bytes by which some programs are wrong about a file's size
_STREAMED = 0x7FFF0000  # programs that do not know the size when they begin state about the largest there is

_NO_TEXT = re.compile(rb"[^\t\n\r\f\x20-\x7e\x80-\xff]")


def what_is(data: bytes) -> tuple[str, str]:
    """Return ``picture``, ``sound``, ``video``, ``other`` or ``unknown``, and what bytes are in words.

    >>> what_is(b"GIF89a")
    ('picture', 'a GIF picture')
    >>> what_is(b"<!doctype html><title>404</title>")
    ('other', 'HTML')
    """
    if not data:
        return "other", "empty, 0 bytes"
    if not data.strip(b"\0"):
        return "other", "zero bytes only"
    if picture := _picture(data):
        return "picture", f"{_article(picture)} picture"
    if sound := _sound(data):
        return "sound", f"{_article(sound)} sound"
    if video := _video(data):
        return "video", f"{_article(video)} video"
    if other := _other(data) or _text(data):
        return "other", other
    return "unknown", _unknown(data)


def missing_end(data: bytes) -> str | None:
    """Say where a picture or sound ends too early; None if its end is there, or cannot be told."""
    name = _picture(data) or _sound(data) or ""
    stated = _stated_size(name, data)
    if stated is not None:
        cut = len(data) + _ABOUT < stated < _STREAMED
        return f"has {len(data):,} of {stated:,} bytes" if cut else None
    if name in _ENDS and _ENDS[name] not in data[-_TAIL:]:
        return f"ends after {len(data):,} bytes"
    return None


def _stated_size(name: str, data: bytes) -> int | None:
    """Return the bytes that a file has by its own words; None if it does not say."""

    def number(first: int, size: int, order: Literal["little", "big"]) -> int:
        return int.from_bytes(data[first : first + size], order)

    match data[:4]:
        case b"RIFF":
            return number(4, 4, "little") + 8
        case b"RIFX":
            return number(4, 4, "big") + 8
        case b"RF64":  # has its size in the chunk ds64
            return number(20, 8, "little") + 8
        case b"riff":  # Sony's WAV
            return number(16, 8, "little")
        case b".snd":
            return number(4, 4, "big") + number(8, 4, "big")
        case b"dns.":
            return number(4, 4, "little") + number(8, 4, "little")
        case b"caff":
            return _end_of_caf(data)
        case b"NIST":
            return _end_of_nist(data)
    if name == "BMP":
        return number(2, 4, "little")
    return number(4, 4, "big") + 8 if name == "AIFF" else None


def _end_of_caf(data: bytes) -> int | None:
    """Return where the samples of a Core Audio file end; None if that is not stated."""
    place = 8
    while place < len(data):
        size = int.from_bytes(data[place + 4 : place + 12], "big", signed=True)
        if size < 0:
            return None
        place += 12 + size
        if data[place - 12 - size : place - 8 - size] == b"data":
            return place
    return place + 12  # the header of another chunk


def _end_of_nist(data: bytes) -> int | None:
    """Return where the samples of a NIST SPHERE file end; None if that is not stated."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", data[:_START], re.MULTILINE))
    try:
        counts = [int(fields[key]) for key in (b"sample_count", b"channel_count", b"sample_n_bytes")]
        header = int(data[8:16])
    except (KeyError, ValueError):
        return None
    coded = fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw", b"mu-law")
    return None if coded else header + math.prod(counts)


def _other(data: bytes) -> str | None:
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a pointer of Git LFS, `git lfs pull` fetches the file"
    if data[257:262] == b"ustar":
        return "a tar archive"
    if data[128:132] == b"DICM":
        return "DICOM"
    other = _beginning(data, _OTHERS)
    if other == "a ZIP archive":
        return next((name for name, mark in _ZIPPED.items() if mark in data[:_START]), other)
    return other


def _text(data: bytes) -> str | None:
    """Return what a text is; None if that is not known, or if the bytes are no text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16"
    start = data[:_START].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if _NO_TEXT.search(start):
        return None
    if start.startswith(b"<"):
        if b"<svg" in start:
            return "SVG, a drawing without pixels"
        return "HTML" if b"<html" in start or start.startswith(b"<!doctype html") else "XML"
    if start.startswith((b"{", b"[")):
        return "JSON" if _is_json(data) else None
    if start.startswith(b"data:"):
        return "a data URL"
    if re.match(rb"[a-z0-9]+://", start):
        return "the address of a file"
    return _of_base64(data)


def _of_base64(data: bytes) -> str | None:
    """Return which file a base64 text encodes; None if it is none, or of no known file."""
    letters = b"".join(data[:_START].split()).translate(bytes.maketrans(b"-_", b"+/"))
    try:
        decoded = base64.b64decode(letters[: len(letters) // 4 * 4], validate=True)
    except binascii.Error:
        return None
    inner = _picture(decoded) or _sound(decoded)
    return inner and f"base64 text of {_article(inner)} file"


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _picture(data: bytes) -> str | None:
    """Return the format of a picture by its first bytes; None if it is none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[i : i + 4] for i in range(16, 64, 4))}
        return "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else None
    if data[:2] == b"BM" and data[6:10] == bytes(4):
        return "BMP"
    return _beginning(data, _PICTURES)


def _sound(data: bytes) -> str | None:
    """Return the format of a sound by its first bytes; None if it is none."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return "WAV"
    if data[4:8] == b"ftyp":
        return "M4A" if data[8:12] in _SOUND_BRANDS else None
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    return _beginning(data, _SOUNDS)


def _video(data: bytes) -> str | None:
    """Return the format of a video by its first bytes; None if it is none."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat"):
        return "MP4 or QuickTime"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    return _beginning(data, _VIDEOS)


def _unknown(data: bytes) -> str:
    """Return what bytes without a known beginning may be."""
    if not _NO_TEXT.search(data[:_START]):
        return "text"
    for channels in (3, 1, 4):
        side = math.isqrt(len(data) // channels)
        if side >= 8 and side * side * channels == len(data):
            return f"perhaps raw pixels, as {side} x {side} x {channels} bytes are"
    return "no format that is known"


def _beginning(data: bytes, formats: dict[str, tuple[bytes, ...]]) -> str | None:
    return next((name for name, starts in formats.items() if data.startswith(starts)), None)


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEOi" or name[:2] in ("HE", "MP", "M4") else f"a {name}"
