"""Files that are either whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.records.files import write_whole
from trainables.errors import UserError


def test_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    for content in ("one", b"two"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_text() == "two"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_of_the_files_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match="file: is a folder, and a file must be written there"):
        write_whole(tmp_path / "file", "one")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
