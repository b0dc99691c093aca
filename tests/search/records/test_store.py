"""A search's store on disk."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from search.records.history import History
from search.records.place import FILE
from search.records.store import SearchStore
from trainables.errors import UserError

_HOLD = """
import sys
from pathlib import Path
from search.records.store import SearchStore
store = SearchStore.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def _closed(folder: Path) -> Path:
    """Make a store with a trial in it; return its file."""
    store = SearchStore.create(folder, {"search_id": "first", "config": "{}"})
    with store.transaction():
        store.put_trial("trial-000", {"config": {}})
        store.put_epoch("trial-000", 1, {"accuracy": 0.5})
    store.close()
    return folder / FILE


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder whose store another process has open, and the id of the process."""
    _closed(tmp_path / "mine")
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "mine")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield tmp_path / "mine", process.pid
        process.kill()


def test_a_store_that_is_open_elsewhere_is_neither_opened_nor_read(held: tuple[Path, int]) -> None:
    folder, pid = held
    for way in (SearchStore.open, SearchStore.read):
        with pytest.raises(UserError, match=f"search 'mine' is being run by process {pid} on "):
            way(folder)
    assert SearchStore.id_at(folder) == "first", "its id is known nevertheless"


def test_a_store_that_this_process_has_open_keeps_its_lock(held: tuple[Path, int], tmp_path: Path) -> None:
    store = SearchStore.create(tmp_path / "own", {"search_id": "own"})
    (tmp_path / "link").symlink_to(tmp_path / "own")
    for folder in (tmp_path / "own", tmp_path / "link"):
        with pytest.raises(UserError, match="is being run by this process"):
            SearchStore.read(folder)
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "own")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "is being run by process" in done.stderr
    store.close()
    assert SearchStore.id_at(tmp_path / "own") == "own"


def test_two_searches_of_one_name_are_not_created(tmp_path: Path) -> None:
    SearchStore.create(tmp_path / "t", {}).close()
    with pytest.raises(UserError, match="another process has just started a search there"):
        SearchStore.create(tmp_path / "t", {})


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = _closed(tmp_path / "mine")
    before = {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    tmp_path.joinpath("mine").chmod(0o500)
    path.chmod(0o400)
    store = SearchStore.read(path.parent)
    assert [epochs for _, _, epochs in store.trials()] == [[{"accuracy": 0.5}]]
    assert {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before


_WRITE = """
import sys
from pathlib import Path
from search.records.store import SearchStore
store = SearchStore.open(Path(sys.argv[1]))
store._connection.execute("PRAGMA wal_autocheckpoint = 3")
print("open", flush=True)
for epoch in range(2, 100_000):
    with store.transaction():
        store.put_trial("trial-000", {"epochs": epoch, "filling": "x" * 3000})
        store.put_epoch("trial-000", epoch, {"epoch": epoch})
"""


def test_a_store_is_read_whole_while_a_process_writes_it(tmp_path: Path) -> None:
    folder = _closed(tmp_path / "runs" / "mine").parent
    command = [sys.executable, "-c", _WRITE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = []
        for _ in range(30):
            with closing(SearchStore.read(folder, running=True)) as store:
                ((_, document, epochs),) = store.trials()
            assert document.get("epochs", 1) == len(epochs)
            seen.append(len(epochs))
        process.kill()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_a_store_that_never_stands_still_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _closed(tmp_path / "runs" / "mine").parent
    read, number = Path.read_bytes, itertools.count()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + bytes([next(number)]))
    with pytest.raises(UserError, match="changes all the time while it is read; try again"):
        SearchStore.read(folder, running=True)


def test_a_store_that_this_process_has_open_is_not_copied(tmp_path: Path) -> None:
    folder = _closed(tmp_path / "runs" / "mine").parent
    with closing(SearchStore.open(folder)), pytest.raises(UserError, match="by this process"):
        SearchStore.read(folder, running=True)


def test_what_a_killed_process_had_written_is_read(tmp_path: Path) -> None:
    store = SearchStore.create(tmp_path / "killed", {"search_id": "killed"})
    with store.transaction():
        store.put_trial("trial-000", {"config": {}})
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (FILE, f"{FILE}-wal"):
        (copy / name).write_bytes((tmp_path / "killed" / name).read_bytes())
    assert [trial_id for trial_id, _, _ in SearchStore.read(copy).trials()] == ["trial-000"]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = _closed(tmp_path / "new" / "mine")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_discarded_store_leaves_nothing(tmp_path: Path) -> None:
    store = SearchStore.create(tmp_path / "runs" / "mine", {})
    store.discard()
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs" / "other").mkdir(parents=True)
    SearchStore.create(tmp_path / "runs" / "mine", {}).discard()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "mine", tmp_path / ("x" * 300), Path("/proc/mine")):
        with pytest.raises(UserError, match="cannot be written"):
            SearchStore.create(folder, {})


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def _newer(path: Path) -> None:
    _execute(path, "UPDATE facts SET value = '99' WHERE name = 'version'")


def _foreign(path: Path) -> None:
    path.unlink()
    _execute(path, "CREATE TABLE other (name TEXT)")


def _older(path: Path) -> None:
    _execute(path, "UPDATE facts SET value = '1' WHERE name = 'version'")


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in (found.start() for found in re.finditer(rb'\{"accuracy"', bytes(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is no search's store$"),
        (lambda path: path.write_bytes(b"no database at all" * 500), "is no search's store"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "is damaged|is no search's store"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is no search's store"),
        (_foreign, "is no search's store$"),
        (_newer, r"was written by a newer version \(99, not 3\)$"),
        (_older, r"was written by another version \(1, not 3\)$"),
        (_flipped, "is damaged"),
    ],
)
def test_what_is_no_whole_store_is_refused_in_a_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    path = _closed(tmp_path / "mine")
    damage(path)
    for way in (SearchStore.read, SearchStore.open):
        with pytest.raises(UserError, match=message) as refused:
            History((), {}).restore(way(path.parent))
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
