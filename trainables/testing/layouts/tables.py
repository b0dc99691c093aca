"""One small table with pictures, written in every format that holds tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from trainables.testing.layouts.formats import png

ROWS: list[dict[str, Any]] = [
    {
        "file": f"pictures/{row}.png" if row != 5 else "",
        "caption": "" if row == 6 else f'drawing {row}, "quoted"\nand é',
        "genre": ["red", "blue"][row % 2],
        "split": ["train", "train", "val", "test"][row // 3],
    }
    for row in range(12)
]


def _table() -> pa.Table:
    return pa.table({name: [row[name] for row in ROWS] for name in ROWS[0]})


def _delimited(delimiter: str, encoding: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, ROWS[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)

    return write


def _stream(path: Path) -> None:
    with pa.ipc.new_stream(str(path), _table().schema) as writer:
        writer.write_table(_table())


WRITERS: dict[str, Callable[[Path], object]] = {
    "mine.csv": _delimited(",", "utf-8"),
    "excel.csv": _delimited(";", "utf-16"),
    "mine.tsv": _delimited("\t", "cp1252"),
    "mine.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "mine.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "mine.parquet": lambda path: pq.write_table(_table(), path),
    "mine.feather": lambda path: pyarrow.feather.write_feather(_table(), path),
    "mine.arrow": _stream,
}


def write_table_file(folder: Path, name: str) -> Path:
    """Write the rows as a file of this name, and the pictures beside it; return the file's path."""
    (folder / "pictures").mkdir(parents=True)
    for row in range(len(ROWS)):
        (folder / "pictures" / f"{row}.png").write_bytes(png(row))
    WRITERS[name](folder / name)
    return folder / name
