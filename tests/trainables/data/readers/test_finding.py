"""Which reader is taken for what the user has named, and what is said if there is none."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from trainables.data import SPLITS, open_dataset
from trainables.data.readers import opening
from trainables.errors import UserError

CSV = "text,label,split\n" + "".join(
    f"a {split} {label},{label},{split}\n" for split in ("train", "validation", "test") for label in "ab"
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.gz", gzip.compress(CSV.encode(), mtime=0), "is a gzip file; unpack it"),
        ("mine.csv.gz", gzip.compress(b"PK\3\4rest", mtime=0), r"mine.csv.gz is a ZIP archive; unpack it"),
        (
            "mine.csv.gz",
            gzip.compress(CSV.encode(), mtime=0)[:-9],
            "mine.csv.gz is cut off: its compressed",
        ),
        ("mine.csv.gz", b"\x1f\x8b\x08" + bytes(60), "mine.csv.gz is damaged: its compressed data cannot be"),
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


TSV = CSV.replace(",", "\t")
JSONL = "".join(json.dumps(row) + "\n" for row in csv.DictReader(CSV.splitlines()))


@pytest.mark.parametrize(
    ("ending", "text"), [(".csv", CSV), (".tsv", CSV.replace(",", "\t")), (".jsonl", JSONL)]
)
def test_texts_may_be_compressed(tmp_path: Path, ending: str, text: str) -> None:
    plain, packed = tmp_path / f"plain{ending}", tmp_path / f"packed{ending}.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    assert open_dataset(str(packed)).fingerprint == open_dataset(str(plain)).fingerprint


def test_the_files_of_splits_may_be_compressed(tmp_path: Path) -> None:
    lines = ["text,label", *(f"text {i},{i % 2}" for i in range(30))]
    for name in ("train.csv", "dev.csv", "test.csv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    whole = open_dataset(str(tmp_path))
    assert [whole.count(split) for split in SPLITS] == [30, 30, 30]
    said = "not read: dev.csv.gz, test.csv.gz; name the folder to read all splits"
    assert said in open_dataset(str(tmp_path / "train.csv.gz")).notes
    (tmp_path / "train.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"has train.csv, train.csv.gz: rows would be read twice"):
        open_dataset(str(tmp_path))


def test_a_small_file_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_MOST", 2**20)
    (tmp_path / "mine.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * 2**18))
    with pytest.raises(UserError, match=r"mine.csv.gz holds more than 0.000976562 GiB; unpack it"):
        open_dataset(str(tmp_path / "mine.csv.gz"))


def test_files_of_other_splits_that_are_not_read_are_said(tmp_path: Path) -> None:
    lines = ["text,label", *(f"text {i},{i % 2}" for i in range(30))]
    for name in ("train.csv", "test.csv", "other.csv"):
        (tmp_path / name).write_text("\n".join(lines))
    said = "not read: test.csv; name the folder to read all splits"
    assert said in open_dataset(str(tmp_path / "train.csv")).notes
    assert said not in open_dataset(str(tmp_path / "other.csv")).notes
    assert said not in open_dataset(str(tmp_path)).notes
