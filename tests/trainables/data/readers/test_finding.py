"""Which reader is taken for what the user has named, and what is said if there is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from trainables.data import open_dataset
from trainables.errors import UserError

CSV = "text,label,split\n" + "".join(
    f"a {split} {label},{label},{split}\n" for split in ("train", "validation", "test") for label in "ab"
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.csv.gz", gzip.compress(CSV.encode(), mtime=0), "is a gzip file; unpack it"),
        ("mine.zip", b"PK\3\4rest", "is a ZIP archive; unpack it, and name the folder"),
        ("mine.xlsx", b"PK\3\4[Content_Types].xml", "is a document of Office; if it is of Excel, save its"),
        ("mine.db", b"SQLite format 3\0", "is an SQLite file; write its table as CSV or Parquet"),
        ("mine.pkl", b"\x80\4rest", "is a pickle; write it as Parquet"),
        ("mine.txt", CSV.encode(), "the file is of no known format; --format says which format it is: .*csv"),
    ],
)
def test_files_that_are_not_read(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        open_dataset(str(tmp_path / name))


def test_files_of_other_splits_that_are_not_read_are_said(tmp_path: Path) -> None:
    lines = ["text,label", *(f"text {i},{i % 2}" for i in range(30))]
    for name in ("train.csv", "test.csv", "other.csv"):
        (tmp_path / name).write_text("\n".join(lines))
    said = "not read: test.csv; name the folder to read all splits"
    assert said in open_dataset(str(tmp_path / "train.csv")).notes
    assert said not in open_dataset(str(tmp_path / "other.csv")).notes
    assert said not in open_dataset(str(tmp_path)).notes
