"""Where the cache is."""

from __future__ import annotations

from trainables.cache import cache_dir


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("PARETOFUSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "paretofuse"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
