"""Preparing many pictures: a short form of ``benchmarks/prepare_images.py``, in this process."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_prepares_pictures_in_both_layouts(tiny_encoders, tmp_path, monkeypatch) -> None:
    benchmark = importlib.import_module("prepare_images")
    layouts = benchmark.write(tmp_path, 20, 40)
    for layout in ("files", "parquet"):
        monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / f"cache {layout}"))
        found = benchmark.measure(layouts[layout], str(tiny_encoders["vit"]), 16)
        assert found["seconds"] > 0
        assert found["memory"] < 100 * 2**20
    assert benchmark.alone(40, 16) > 0
