"""The command ``convert``: a file and pictures become a folder, or one line says why not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.trainables.data.test_source import png
from trainables.data import SPLITS, open_dataset

_Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(call: _Call) -> _Call:
    """Run ``convert`` in this process; returns exit code, standard output and standard error."""
    return partial(call, "convert")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file of 40 rows, and its pictures."""
    (tmp_path / "mine" / "images").mkdir(parents=True)
    lines = ["file;caption;genre"]
    for row in range(40):
        lines.append(f"{row}.png;a box, number {row};{'red' if row % 2 else 'blue'}")
        (tmp_path / "mine" / "images" / f"{row}.png").write_bytes(png((row, 0, 0), (8, 8)))
    (tmp_path / "mine" / "captions.csv").write_text("\n".join(lines))
    return tmp_path / "mine" / "captions.csv"


def test_a_table_becomes_a_folder(call: _Call, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    code, printed, said = call(str(table), str(out), "--validation-fraction", "0.2")
    assert code == 0
    assert [line.split(":")[0] for line in printed.splitlines()] == [
        str(out / f"{s}.parquet") for s in SPLITS
    ]
    assert "columns: text=caption, image=file, label=genre (found by name and type)" in said
    assert "files of column 'file' are in images/" in said
    dataset = open_dataset(str(out))
    assert {split: dataset.count(split) for split in SPLITS} == {"train": 24, "validation": 8, "test": 8}
    assert {m: where.column for m, where in dataset.modalities.items()} == {
        "text": "caption",
        "image": "file",
    }


def test_json(call: _Call, table: Path, tmp_path: Path) -> None:
    code, printed, _ = call(
        str(table), str(tmp_path / "out"), "--json", "--columns", "text=caption,label=genre"
    )
    assert code == 0
    document = json.loads(printed)
    assert document["folder"] == str(tmp_path / "out")
    assert sum(document["rows"].values()) == 40
    assert document["bytes"]["train"] == (tmp_path / "out" / "train.parquet").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{table}", "{folder}/mine"], "is there already; name a new folder"),
        (["{table}", "{folder}/out", "--columns", "text=words"], "has no column 'words'"),
        (["{folder}/nothing", "{folder}/out"], "no such file or folder"),
        (["{table}", "{folder}/out", "--format", "jsonl"], "captions.csv line 1 is no JSON"),
    ],
)
def test_a_mistake_is_one_line(
    call: _Call, table: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    before = sorted(os.listdir(tmp_path))
    code, printed, said = call(*(each.format(table=table, folder=tmp_path) for each in arguments))
    assert (code, printed) == (2, "")
    assert reason.format(folder=tmp_path) in said.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == before


def test_rows_that_are_left_out_are_said(call: _Call, table: Path, tmp_path: Path) -> None:
    (table.parent / "images" / "3.png").write_bytes(b"")
    code, _, said = call(str(table), str(tmp_path / "out"), "--bad-rows", "skip")
    assert code == 0
    assert "1 row that cannot be read is left out" in said
