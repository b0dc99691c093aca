"""What bytes are, in words."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest

from tests.trainables.data.test_source import png
from trainables.data.contents import missing_end, what_is


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


RAW = np.random.default_rng(0).integers(0, 256, 32 * 32 * 3, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty, 0 bytes"),
        (bytes(100), "zero bytes only"),
        (b"\n<!DOCTYPE html>\n<p>", "HTML"),
        (b"<div>no</div></html><html>", "HTML"),
        (
            b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
            "SVG, a drawing without pixels",
        ),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (json.dumps({"error": 404}).encode(), "JSON"),
        (b"\xef\xbb\xbf[1, 2]", "JSON"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a pointer of Git LFS, `git lfs pull` fetches the file",
        ),
        (base64.b64encode(png()), "base64 text of a PNG file"),
        (base64.encodebytes(png() * 50), "base64 text of a PNG file"),
        (base64.urlsafe_b64encode(b"\xff\xd8\xff\xe0" + RAW), "base64 text of a JPEG file"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a data URL"),
        (b"https://example.org/a.png", "the address of a file"),
        ("drei Äpfel".encode("latin-1"), "text"),
        (b"images/cat.png", "text"),
        ("x".encode("utf-16"), "text in UTF-16"),
        (b"%PDF-1.7\n", "PDF"),
        (_zip(), "a ZIP archive"),
        (b"PK\3\4" + bytes(26) + b"[Content_Types].xml", "a document of Office"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "a document of Office"),
        (b"PK\3\4" + bytes(26) + b"arr_0.npy", "a NumPy archive"),
        (_tar(), "a tar archive"),
        (gzip.compress(b"a", mtime=0), "a gzip file"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "an MP4 or QuickTime video"),
        (b"\x1a\x45\xdf\xa3\x01\0\0", "a Matroska or WebM video"),
        (b"RIFF\x10\0\0\0AVI LIST", "an AVI video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "an HEIC picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "an AVIF picture"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a WAV sound"),
        (b"ID3\4\0\0", "an MP3 sound"),
        (RAW, "perhaps raw pixels, as 32 x 32 x 3 bytes are"),
        (RAW[:101], "no format that is known"),
        (np.lib.format.magic(1, 0) + b"v\0", "a NumPy array"),
        (b"BMW and others", "text"),
    ],
)
def test_bytes_in_words(data: bytes, words: str) -> None:
    assert what_is(data)[1] == words


def test_the_end_of_a_file() -> None:
    assert missing_end(png()) is None
    assert missing_end(png() + b"\r\n") is None
    assert missing_end(png()[:-9]) == f"ends after {len(png()) - 9} bytes"
    assert missing_end(b"RIFF\x18\0\0\0WAVEfmt ") == "has 16 of 32 bytes"
    assert missing_end(b"RIFF\x10\0\0\0WAVEfmt ") is None, "some programs state 8 bytes too many"
    assert missing_end(b"RIFF\xff\xff\xff\xffWAVEfmt ") is None, "its size was not known when it was begun"
    assert missing_end(b"FORM\0\0\0\x18AIFFCOMM") == "has 16 of 32 bytes"
    assert missing_end(b"no file") is None
