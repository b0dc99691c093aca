"""Files are opened, and refused if they are something else than their names say."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from functools import cache
from pathlib import Path

from trainables.data.contents import what_is
from trainables.errors import UserError
from trainables.units import GIB

#: What ``what_is`` says of what gzip has compressed, and of texts.
_GZIP = "a gzip file"
_TEXTS = ("text", "JSON", "base64", "the address", "a data URL")

#: What to do with files that hold a table or a dataset, but are not read, by what ``what_is`` says of them.
_ADVICE = {
    "a document of Office": "if it is of Excel, save its sheet as CSV",
    "a ZIP archive": "unpack it, and name the folder",
    _GZIP: "unpack it",
    "a bzip2 file": "unpack it",
    "an xz file": "unpack it",
    "a Zstandard file": "unpack it",
    "a 7z archive": "unpack it, and name the folder",
    "a RAR archive": "unpack it, and name the folder",
    "an SQLite file": "write its table as CSV or Parquet",
    "a pickle": "write it as Parquet, with DataFrame.to_parquet if it is of pandas",
    "a NumPy archive": "write a table as CSV or Parquet",
    "a NumPy array": "write a table as CSV or Parquet",
}

#: Marks at the beginning of texts, the longest first.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}

_SHOWN = 120  # characters of a library's message that are shown
_MOST = 4 * GIB  # bytes that are unpacked in memory
_START = 4096  # bytes at the beginning that tell what a file is
_HEAD = 16  # bytes at the beginning, half of which are zero if Latin letters are in UTF-16

#: Bytes above 127 that stand together. In texts of western languages, most stand alone or in pairs.
_HIGH = re.compile(rb"[\x80-\xff]+")
_LONG = 2
_FEW_LONG = 0.1
#: Characters of several bytes in UTF-8.
_UTF_8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def what_it_is(path: Path) -> str | None:
    """Say what a file is that has the name of another format; None if it is not known."""
    with path.open("rb") as file:
        return _what(file.read(_START))


def _what(data: bytes) -> str | None:
    kind, words = what_is(data)
    return None if kind == "unknown" else words


def advice_on(what: str | None) -> str:
    """Return, to end a sentence with, what to do with a file that is no dataset; empty if nothing is known.

    Args:
        what: What ``what_it_is`` says of it.
    """
    advice = _ADVICE.get(what or "")
    return f"; {advice}" if advice else ""


def unreadable(name: str, path: Path, wanted: str, error: Exception | None = None) -> UserError:
    """Return the error for a file that cannot be read; it says what the file is instead, if that is known.

    Args:
        name: The dataset's name.
        path: The file.
        wanted: What it should be, as ``what_it_is`` says it.
        error: Why it cannot be read; it is shown if nothing else is known.
    """
    where = f"dataset '{name}': {path.name}"
    try:
        found = what_it_is(path)
    except OSError as missing:
        return UserError(f"{where} is not {wanted} that can be read: {missing.strerror}")
    if found not in (None, wanted):
        reason = f": it is {found}{advice_on(found)}"
    else:
        reason = f" ({str(error).splitlines()[0][:_SHOWN]})" if str(error or "") else ""
    return UserError(f"{where} is not {wanted} that can be read{reason}")


def read_text(name: str, path: Path) -> tuple[str, str | None]:
    """Return the text of a file, which may be compressed by gzip, and its encoding if that is not UTF-8.

    The encoding is that of the mark at the beginning; else UTF-8; else, for texts of western languages,
    Windows-1252.

    Args:
        name: The dataset's name in error messages.
        path: The file.

    Raises:
        UserError: If it is no text, or its encoding is unknown. The message names the line if it can.
    """
    where = f"dataset '{name}': {path.name}"
    try:
        found = what_it_is(path)
        data = path.read_bytes() if _is_text(found) or found == _GZIP else b""
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror})") from error
    if found == _GZIP:
        data = _unpacked(where, data)
        found = _what(data[:_START])
    if not _is_text(found):
        raise UserError(f"{where} is {found}{advice_on(found)}")
    marked = next((coding for mark, coding in _MARKS.items() if data.startswith(mark)), None)
    if marked is None:
        even, odd = data[:_HEAD:2].count(0), data[1:_HEAD:2].count(0)
        marked = "utf-16-le" if odd > _HEAD // 4 else "utf-16-be" if even > _HEAD // 4 else None
    coding = marked or "utf-8"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        if marked is not None or not _western(data):
            line = data.count(b"\n", 0, error.start) + 1
            raise UserError(
                f"{where} line {line} is no text in {_shown(coding)}; save the file in UTF-8"
            ) from error
        coding, text = "cp1252", data.decode("cp1252")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{where} line {line} has a zero byte, as no text has; is the file damaged?")
    return text, None if coding in ("utf-8", "utf-8-sig") else _shown(coding)


def _is_text(found: str | None) -> bool:
    return found is None or found.startswith(_TEXTS)


def _unpacked(where: str, data: bytes) -> bytes:
    """Return what gzip has compressed.

    Raises:
        UserError: If it is damaged, or so large that it might be made to fill the memory.
    """
    try:
        with gzip.open(io.BytesIO(data)) as file:
            unpacked = file.read(_MOST + 1)
    except EOFError:
        raise UserError(f"{where} is cut off: its compressed data do not end") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{where} is damaged: its compressed data cannot be unpacked ({error})") from None
    if len(unpacked) > _MOST:
        raise UserError(f"{where} holds more than {_MOST / GIB:g} GiB; unpack it")
    return unpacked


def _western(data: bytes) -> bool:
    """Return whether bytes that are not UTF-8 are likely a text in Windows-1252."""
    runs = _HIGH.findall(data)
    if 2 * sum(map(len, _UTF_8.findall(data))) >= sum(map(len, runs)):  # UTF-8 that is damaged
        return False
    if sum(len(run) > _LONG for run in runs) > _FEW_LONG * len(runs):
        return False
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return True


def _shown(coding: str) -> str:
    return {"cp1252": "Windows-1252"}.get(coding, coding[:6].upper().rstrip("-"))


def file_hash(path: Path) -> bytes:
    """Return a hash of a file's content, which is read once for all parts that it has."""
    stat = path.stat()
    return _file_hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _file_hash(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
