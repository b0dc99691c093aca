"""Nodes that meet in the storage of a search."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from search.checkpoints import storage
from search.execution.readiness import there
from search.execution.readiness.meeting import Meeting, meeting
from search.records.place import Place
from tests.search.buckets import s3_server
from tests.search.execution.readiness.nodes import node
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: Any) -> None:
    monkeypatch.setattr(there, "_SEEN", 0.0)


@pytest.fixture(params=["", "file://"])
def place(tmp_path: Path, request: Any) -> Place:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    return Place(f"{request.param}{tmp_path}/runs", "mine")


def _elsewhere(shared: Meeting, folder: Path) -> tuple[Any, ...]:
    """Return the invitation as a node understands it that has another folder at that path."""
    _, *others = shared.invitation(node(2))
    return pickle.dumps(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())), *others


def test_nodes_that_share_the_storage_meet_and_leave_nothing(place: Place, tmp_path: Path) -> None:
    with meeting(place) as shared:
        assert there.meet(*shared.invitation(node(2))) is None
        assert shared.has_come(node(2))
        assert not shared.has_come(node(3))

    assert not list((tmp_path / "runs" / "mine").iterdir())


def test_a_node_with_a_folder_of_its_own_writes_nothing(place: Place, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with meeting(place) as shared:
        reason = there.meet(*_elsewhere(shared, own))

    assert reason == "is another one: what was just written here is not there"
    assert not list(own.iterdir())


def test_a_storage_that_cannot_be_used_says_why() -> None:
    with (
        pytest.raises(UserError, match=r"^/proc/runs/mine: cannot be used"),
        meeting(Place("/proc/runs", "mine")),
    ):
        pass


def test_nodes_meet_in_a_bucket(monkeypatch: Any) -> None:
    monkeypatch.setattr(there, "_SEEN", 5.0)
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with meeting(Place("s3://bucket/runs", "mine")) as shared:
            assert there.meet(*shared.invitation(node(2))) is None
            assert shared.has_come(node(2))
        found, _ = storage("s3://bucket")
        left = found.get_file_info(fs.FileSelector("bucket", recursive=True))
        assert not [info.path for info in left if info.type is fs.FileType.File]

        with (
            pytest.raises(UserError, match=r"^s3://nowhere/runs/mine: cannot be used"),
            meeting(Place("s3://nowhere/runs", "mine")),
        ):
            pass
