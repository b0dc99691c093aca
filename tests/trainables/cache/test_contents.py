"""What the cache holds, and what is removed: never what is in use, nor what cannot be computed again."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from trainables.cache import build_once, building
from trainables.cache.contents import KINDS, contents, shrink, summary
from trainables.cache.entries import release
from trainables.cache.manifest import manifest_path
from trainables.memory.memo import PredictionMemo

DAY = 86_400
SIZE = 1000
FAR = "searches/s3/bucket/runs/far"


def _entry(folder: Path, name: str, days: float) -> Path:
    """Build an entry that no process uses and that was last used some days ago."""
    entry = folder / name
    build_once(entry, lambda path: path.write_bytes(bytes(SIZE)))
    release(entry)
    path = manifest_path(entry)
    then = path.stat().st_mtime - days * DAY
    os.utime(path, (then, then))
    return entry


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with something of each kind."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(folder))
    for days, kind in enumerate(("prepared", "features", "columns", "encoders", "pooled", "included"), 1):
        _entry(folder / kind, f"{kind}-new", days / 10)
        _entry(folder / kind, f"{kind}-old", 10 * days)
    PredictionMemo().put("a", {"total": 3})
    (folder / "calibrations.json").write_text("[]")
    (folder / FAR).mkdir(parents=True)
    (folder / FAR / "search.sqlite").touch()
    left = folder / "features" / ".killed.partial"
    left.mkdir()
    (left / "data").write_bytes(bytes(SIZE))
    return folder


def _names(cache: Path) -> set[str]:
    return {str(item.path.relative_to(cache)) for item in contents()}


def test_everything_is_counted(cache: Path) -> None:
    rows = {row["kind"]: row for row in summary()}
    assert list(rows) == list(KINDS)
    counts = {kind: row["entries"] for kind, row in rows.items()}
    assert counts == {
        **dict.fromkeys(("prepared", "features", "columns", "encoders", "pooled", "included"), 2),
        **dict.fromkeys(("predictions", "calibrations", "searches", "partial"), 1),
    }
    assert rows["prepared"]["bytes"] == 2 * SIZE
    assert rows["prepared"]["in_use"] == 0
    low, high = rows["prepared"]["unused_seconds"]
    assert DAY / 10 <= low < DAY < 10 * DAY <= high < 11 * DAY
    assert [row["kind"] for row in summary(["partial", "features"])] == ["features", "partial"]


def test_age(cache: Path) -> None:
    removed, kept = shrink(older_than=15 * DAY)
    kinds = ("features", "columns", "encoders", "pooled", "included")
    assert {item.path.name for item in removed} == {f"{kind}-old" for kind in kinds}
    assert kept == []
    assert "prepared/prepared-old" in _names(cache)


def test_size_takes_the_least_recently_used(cache: Path) -> None:
    rest = sum(item.size for item in contents(["features", "prepared"])) - SIZE
    removed, _ = shrink(["features", "prepared"], max_size=rest)
    assert [item.path.name for item in removed] == ["features-old"]
    removed, _ = shrink(["features", "prepared"], max_size=rest)
    assert removed == []


def test_all_but_what_cannot_be_computed_again(cache: Path) -> None:
    shrink()
    assert _names(cache) == {"predictions.sqlite", "calibrations.json", FAR}
    assert PredictionMemo().get("a") is None
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert {path.name for path in files} == {"predictions.sqlite", "calibrations.json", "search.sqlite"}
    removed, _ = shrink(["searches", "calibrations"])
    assert len(removed) == 2
    assert _names(cache) == {"predictions.sqlite"}


def test_what_is_in_use_stays(cache: Path) -> None:
    entry = cache / "prepared" / "prepared-old"
    build_once(entry, lambda _: pytest.fail("it is there"))
    running = sqlite3.connect(cache / FAR / "search.sqlite", isolation_level=None)
    running.execute("PRAGMA locking_mode = EXCLUSIVE")
    running.execute("BEGIN EXCLUSIVE")
    with building(cache / "features", "x"):
        _, kept = shrink(["prepared", "partial", "searches"])
        assert {(item.path.name, reason) for item, reason in kept} == {
            ("prepared-old", "in use"),
            (".x.partial", "in use"),
            ("far", "in use"),
        }
        _, kept = shrink(["prepared"], max_size=1)
        assert [item.path for item, _ in kept] == [entry]
        assert sum(row["in_use"] for row in summary()) == 3
    running.close()
    assert entry.exists()
    assert shrink(["searches"])[1] == []
