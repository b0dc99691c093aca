"""Only a search of one's own is resumed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from search.records.store import FILE, SearchStore
from trainables.errors import UserError

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file to another user"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    SearchStore.create(tmp_path / "theirs", {"search_id": "x"}).close()
    return tmp_path / "theirs"


def test_ones_own_is_opened(folder) -> None:
    store = SearchStore.open(folder)
    assert store.fact("search_id") == "x"
    store.close()


@as_root
@pytest.mark.parametrize("ending", ["", "-wal", "-journal"])
def test_another_users_is_refused_until_it_is_copied(folder, tmp_path, ending) -> None:
    path = folder / (FILE + ending)
    path.touch()
    os.chown(path, 65533, 65533)
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=rf"^{path}: belongs to user 65533, .*copy {folder} .*--warm-start"):
        SearchStore.open(folder)
    assert sorted(folder.iterdir()) == before
    shutil.copytree(folder, tmp_path / "mine")
    SearchStore.open(tmp_path / "mine").close()


@as_root
def test_another_users_is_read(folder) -> None:
    os.chown(folder / FILE, 65533, 65533)
    store = SearchStore.read(folder)
    assert store.fact("search_id") == "x"
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mode", [0o660, 0o606])
def test_one_that_others_may_write_is_refused_until_they_may_not(folder, mode) -> None:
    (folder / FILE).chmod(mode)
    with pytest.raises(UserError, match=rf"{FILE}: others may write it, .*: chmod go-w /"):
        SearchStore.open(folder)
    (folder / FILE).chmod(0o644)
    SearchStore.open(folder).close()
