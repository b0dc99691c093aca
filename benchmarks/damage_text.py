"""Damage to the structure of text files, and to the types of columns, for ``bad_data.py``."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from damage import twisted

TEXTS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".md")
#: Types that a column may get.
_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.int8(),
    pa.int64(),
    pa.float64(),
)
_BREAKS = (b"\n", b"\r\n")
_DELIMITERS = (b",", b";", b"\t", b":", b" ")


def _quote(content: bytes, draw: random.Random) -> bytes:
    """Add a quotation mark, or remove one."""
    return _added_or_removed(content, b'"', draw)


def _delimiter(content: bytes, draw: random.Random) -> bytes:
    """Add a delimiter, or remove one."""
    there = [each for each in _DELIMITERS if each in content]
    return _added_or_removed(content, draw.choice(there or [b","]), draw)


def _added_or_removed(content: bytes, mark: bytes, draw: random.Random) -> bytes:
    places = [i for i in range(len(content)) if content[i : i + 1] == mark]
    if places and draw.random() < 0.5:
        place = draw.choice(places)
        return content[:place] + content[place + 1 :]
    place = draw.randrange(len(content) + 1)
    return content[:place] + mark + content[place:]


def _joined(content: bytes, draw: random.Random) -> bytes:
    """Join two lines."""
    lines = content.splitlines(keepends=True)
    if len(lines) > 1:
        line = draw.randrange(len(lines) - 1)
        lines[line] = lines[line].rstrip(b"\r\n")
    return b"".join(lines)


def _doubled(content: bytes, draw: random.Random) -> bytes:
    """Repeat a line."""
    lines = content.splitlines(keepends=True)
    line = draw.randrange(len(lines))
    if not lines[line].endswith(_BREAKS):
        lines[line] += b"\n"
    return b"".join([*lines[:line], lines[line], *lines[line:]])


def _twisted(content: bytes, draw: random.Random) -> bytes:
    """Replace a value of a document, or of one line's, by one of another type, or remove it."""
    try:
        return json.dumps(twisted(json.loads(content), draw)).encode()
    except ValueError:
        lines = content.splitlines()
        line = draw.randrange(len(lines))
        lines[line] = json.dumps(twisted(json.loads(lines[line]), draw)).encode()
        return b"\n".join(lines)


STRUCTURE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "quote": _quote,
    "delimiter": _delimiter,
    "joined": _joined,
    "doubled": _doubled,
    "twisted": _twisted,
}


def damage_text(path: Path, how: str, draw: random.Random) -> bool:
    """Damage the structure of a text file; return False if that kind of damage does not apply to it."""
    content = path.read_bytes()
    if path.suffix not in TEXTS or not content:
        return False
    if how == "twisted" and path.suffix not in (".json", ".jsonl"):
        return False
    path.write_bytes(STRUCTURE[how](content, draw))
    return True


def swap_types(path: Path, draw: random.Random) -> bool:
    """Give a column of a table or an array another type, its values as they are; return False for others."""
    if path.suffix == ".parquet":
        pq.write_table(_swapped(pq.read_table(path), draw), path)
    elif path.suffix == ".arrow":
        file = pa.OSFile(str(path))
        try:
            table, stream = pa.ipc.open_file(file).read_all(), False
        except pa.ArrowInvalid:
            table, stream = pa.ipc.open_stream(pa.OSFile(str(path))).read_all(), True
        table = _swapped(table, draw)
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".npy":
        array = np.load(path, allow_pickle=True)
        kinds = ["U40", "S40", "O", *["f2"] * (array.dtype.kind == "f")]
        np.save(path, array.astype(draw.choice(kinds)))
    else:
        return False
    return True


def _swapped(table: pa.Table, draw: random.Random) -> pa.Table:
    """Return a table with one of its columns as another type."""
    column = draw.randrange(table.num_columns)
    values = table.column(column)
    draw.shuffle(other := [*_TYPES])
    for kind in other:
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            if kind != values.type:
                return table.set_column(column, table.field(column).name, values.cast(kind))
    return table


def text_of(value: Any) -> str:
    """Return a cell as a text that does not depend on the type in which it is stored."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
