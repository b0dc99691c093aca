"""Entries of the cache: built once, never half, rebuilt if damaged, usable by those who may only read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables.cache import build_once, building, cache_dir, ready
from trainables.cache import manifest as manifests
from trainables.cache.entries import in_use, partials, release, remove
from trainables.cache.folder import make_folder
from trainables.errors import DiskFullError, UserError

CONTENT = b"content " * 2000


def build(target: Path) -> None:
    """Build an entry of two files."""
    target.mkdir()
    (target / "large").write_bytes(CONTENT)
    (target / "small.json").write_text('{"rows": 3}')


def new_process(entry: Path) -> None:
    """Forget what this process knows of an entry, as a new one does."""
    release(entry)
    manifests._compared.clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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


def test_what_dead_processes_left_is_removed_and_what_others_build_is_kept(tmp_path) -> None:
    (tmp_path / ".dead.partial").mkdir()
    (tmp_path / ".dead.partial" / "data").write_bytes(CONTENT)
    with building(tmp_path, "alive"):
        build_once(tmp_path / "x", build)
        assert partials(tmp_path) == [tmp_path / ".alive.partial"]
    assert partials(tmp_path) == []


@pytest.mark.parametrize("file", ["large", "small.json"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "bytes instead of"),
        (lambda path: path.write_bytes(b""), "0 bytes instead of"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "not what was written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "not what was written"),
        (lambda path: path.unlink(), "is missing"),
    ],
    ids=["cut", "emptied", "zeroed", "flipped", "removed"],
)
def test_a_damaged_entry_is_built_again_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, harm: Callable[[Path], None], reason: str
) -> None:
    entry = tmp_path / "x"
    build_once(entry, build)
    before = (entry / file).stat()
    harm(entry / file)
    if (entry / file).exists():
        os.utime(entry / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert build_once(entry, build)
    assert (entry / "large").read_bytes() == CONTENT
    assert not build_once(entry, build)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"cache entry {entry} was damaged ({file} ") or "content of" in line
    assert reason in line
    assert line.endswith("it is computed again")


@pytest.mark.parametrize("content", ["", "{}x", '{"large": 3}', None])
def test_an_entry_without_a_usable_manifest_is_built_again(tmp_path: Path, content: str | None) -> None:
    entry = tmp_path / "x"
    build_once(entry, build)
    manifest = manifests.manifest_path(entry)
    manifest.unlink() if content is None else manifest.write_text(content)
    assert build_once(entry, build)
    assert not build_once(entry, build)


@pytest.mark.parametrize("what", [".manifest", "note"])
def test_folders_in_place_of_manifest_and_note_are_removed(tmp_path: Path, what: str) -> None:
    entry = tmp_path / "entry"
    build_once(entry, build)
    note = next(tmp_path.glob(".entry.compared-*"))
    path = tmp_path / "entry.manifest" if what == ".manifest" else note
    path.unlink()
    path.mkdir()
    new_process(entry)
    assert build_once(entry, build) == (what == ".manifest")
    assert ready(entry)


def test_a_note_that_is_no_text_says_nothing(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    build_once(entry, build)
    next(tmp_path.glob(".entry.compared-*")).write_bytes(b"\xb7" * 64)
    new_process(entry)
    assert not build_once(entry, build)


def test_pages_that_changed_places_are_found(tmp_path: Path) -> None:
    first, second = (os.urandom(manifests._PAGE) for _ in range(2))
    (tmp_path / "a").write_bytes(first + second + b"end")
    (tmp_path / "b").write_bytes(second + first + b"end")
    assert manifests.checksum(tmp_path / "a") != manifests.checksum(tmp_path / "b")


def test_bytes_are_compared_once_a_machine_and_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = tmp_path / "x"
    build_once(entry, build)
    compared = []
    checksum = manifests.checksum
    monkeypatch.setattr(manifests, "checksum", lambda path: compared.append(path) or checksum(path))
    for _ in range(3):  # processes
        new_process(entry)
        assert ready(entry)
    assert compared == []
    later = time.time() + 90_000
    monkeypatch.setattr(time, "time", lambda: later)
    new_process(entry)
    assert ready(entry)
    assert len(compared) == 2
    monkeypatch.setattr(manifests, "_boot", lambda: "another start")
    new_process(entry)
    assert ready(entry)
    assert len(compared) == 4


def test_an_entry_in_use_is_not_removed(tmp_path: Path) -> None:
    entry = tmp_path / "x"
    code = f"""
from pathlib import Path
from trainables.cache import build_once
build_once(Path({str(entry)!r}), lambda path: path.write_text("mine"))
print("ready", flush=True)
input()
"""
    user = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        assert in_use(entry)
        assert not remove(entry)
        user.send_signal(signal.SIGKILL)
        user.wait(timeout=10)
        assert not in_use(entry)
        assert remove(entry)
    finally:
        user.kill()
        user.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


def test_the_cache_folder_is_private_and_one_that_exists_stays_as_it_is(cache: Path) -> None:
    make_folder(cache / "prepared")
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o755)
    make_folder(cache / "features")
    assert cache.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_reads_what_there_is_and_is_told_what_cannot_be_written(
    cache: Path, tmp_path: Path
) -> None:
    entry = cache / "prepared" / "x"
    cache.mkdir(mode=0o755)
    build_once(entry, build)
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    code = f"""
import os
import numpy  # the other user may have no access to the virtual environment
from pathlib import Path
from trainables.cache import build_once
from trainables.errors import UserError
os.setgid(65534)
os.setuid(65534)
entry = Path({str(entry)!r})
assert not build_once(entry, lambda path: 1 / 0)
for name in ("other", "x"):
    try:
        build_once(entry.parent / name, lambda path: path.write_text("new"))
    except UserError as error:
        print(error)
    if name == "other":
        print("damage", flush=True)
        input()
"""
    user = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    refused = user.stdout.readline()
    assert user.stdout.readline() == "damage\n"
    (entry / "large").write_bytes(bytes(len(CONTENT)))
    damaged, _ = user.communicate("go on\n", timeout=20)
    folder = entry.parent
    assert (
        refused == f"{folder} cannot be written (Permission denied); set PARETOFUSE_CACHE to another folder\n"
    )
    assert damaged.startswith(f"cache entry {entry} is damaged (the content of large is not")
    assert damaged.endswith("its folder cannot be written; set PARETOFUSE_CACHE to another folder\n")
    assert user.returncode == 0


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below", "/proc/nothing"])
def test_a_cache_that_cannot_be_made_is_one_line(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", place)
    with pytest.raises(UserError, match=f"{place}.*set PARETOFUSE_CACHE to another folder"):
        build_once(cache_dir() / "prepared" / "x", build)


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    def too_large(target: Path) -> None:
        target.write_bytes(bytes(2**22))

    with pytest.raises(DiskFullError, match=f"no space left on the disk or quota of {small_disk} .* free"):
        build_once(small_disk / "x", too_large)
    assert {path.name for path in small_disk.iterdir()} <= {"x.lock"}
    assert build_once(small_disk / "x", build)
