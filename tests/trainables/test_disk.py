"""A full disk is recognised, whoever writes to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from trainables.disk import is_disk_full, reserve, writing
from trainables.errors import DiskFullError, UserError

SIZE = 2**22


def _torch(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(torch.zeros(SIZE), file)


def _arrow(path: Path) -> None:
    batch = pa.record_batch([pa.array([bytes(SIZE)])], names=["data"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write(batch)


def _sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE TABLE t (value)")
        connection.execute("INSERT INTO t VALUES (?)", (bytes(SIZE),))
    finally:
        connection.close()


def _reserved(path: Path) -> None:
    with path.open("wb") as file:
        reserve(file, SIZE)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(SIZE)),
        lambda path: save_file({"weight": torch.zeros(SIZE)}, path),
        _torch,
        _arrow,
        _sqlite,
        _reserved,
    ],
    ids=["file", "safetensors", "torch", "arrow", "sqlite", "reserved"],
)
def test_a_full_disk_is_recognised(small_disk: Path, write: Callable[[Path], None]) -> None:
    complaint = f"quota of {small_disk} .*: make space, or try"
    with pytest.raises(DiskFullError, match=complaint) as caught, writing(small_disk, "try another"):
        write(small_disk / "file")
    assert is_disk_full(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_other_files_keep_their_cause(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError), writing(tmp_path / "a", "try another"):
        (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="one") as caught, writing(tmp_path, "try another"):
        raise UserError("one")
    assert not is_disk_full(caught.value)
