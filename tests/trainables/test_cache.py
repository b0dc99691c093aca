from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables.cache import build_once, cache_dir


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("PARETOFUSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "paretofuse"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"


def test_builds_once_for_all_who_ask(tmp_path) -> None:
    built = []

    def build(target: Path) -> None:
        built.append(target)
        target.write_text("whole")

    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda _: build_once(tmp_path / "a" / "x", build), range(8)))
    assert sum(ran) == len(built) == 1
    assert (tmp_path / "a" / "x").read_text() == "whole"


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path) -> None:
    target = tmp_path / "x"

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        build_once(target, fail)
    assert not target.exists()
    (tmp_path / ".x.partial").mkdir()  # as a killed process would leave it
    assert build_once(target, lambda path: path.mkdir())
    assert target.is_dir()
    assert not (tmp_path / ".x.partial").exists()
