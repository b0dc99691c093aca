"""Damage to values of options and to files, for ``bad_input.py`` and ``bad_data.py``."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Kinds of damage to a value, with values of each.
VALUES = {
    "empty": ("", " ", "\t"),
    "negative": ("-1", "-5", "-0.5", "-9999999999999999999", "-3GiB", "-1s"),
    "zero": ("0", "0.0", "00", "0GiB", "0s", "-0"),
    "huge": (
        "9" * 30,
        "1" + "0" * 30,
        "1e400",
        "1e300",
        "9" * 5000,
        str(2**63),
        str(2**62),
        "9" * 20 + "GiB",
    ),
    "not a number": ("nan", "inf", "-inf", "NaN%", "1e", "0x10", "1_000", "1.5", "+3"),
    "wrong type": ("x", "true", "None", "null", "[]", "{}", "a=b", "=", ",", ",,", "a,b", "5,5", "--", "-x"),
    "unicode": ("é漢字🙂", "١٢", "\u202eabc", "a\u0301", "½", "ﬁ"),
    "control": ("a\nb", "a\x00b", "\udcff", "\x1b[31m", "a\rb", "\u2028"),
    "markup": ("[bold]x[/bold]", "[/]", "%s%n", "{0}", "$(x)", "'; DROP TABLE facts; --", "<b>", "*"),
    "long": ("x" * 300, "x" * 5000, "x/" * 3000),
    "path": ("..", "/", ".", "~", "/dev/null", "/nowhere/x.png", "text.txt", "text.txt/x", "folder", "a/b"),
    "foreign": ("picture.png", "other.parquet", "other.sqlite", "other.json", "other.py", "runs/done"),
    "address": ("s3://", "http://", "file://", "sqlite://", "sqlite:///", "ray://", ":0", "nosuch://x"),
}

DAMAGES = ("cut", "emptied", "zeroed", "flipped", "foreign", "folder", "missing", "newer", "twisted")


def twisted(value: Any, draw: random.Random) -> Any:
    """Return a document with one of its values replaced by one of another type, or without it."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        if draw.random() < 0.2:
            return {name: other for name, other in value.items() if name != key}
        return {**value, key: twisted(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        index = draw.randrange(len(value))
        return [*value[:index], twisted(value[index], draw), *value[index + 1 :]]
    return draw.choice([None, "x", -1, 10**30, [], {}, 0.5, True, "9" * 50])


def newer(value: Any) -> Any:
    """Return a document as a later version might have written it."""
    if not isinstance(value, dict):
        return {"version": 99, "value": value}
    return {
        **{name: 99 if name in ("version", "format") else v for name, v in value.items()},
        "later": {"a": 1},
    }


def damage(path: Path, how: str, foreign: Path, draw: random.Random) -> bool:
    """Damage a file; return False if that kind of damage does not apply to it."""
    content = path.read_bytes()
    path.unlink()  # an earlier case may have mapped the file, and keeps what it has mapped
    path.write_bytes(content)
    if how in ("newer", "twisted"):
        change = newer if how == "newer" else lambda value: twisted(value, draw)
        if path.suffix == ".json":
            path.write_text(json.dumps(change(json.loads(content))))
            return True
        return path.suffix == ".sqlite" and _damage_database(path, how, change, draw)
    if how in ("folder", "missing"):
        path.unlink()
        if how == "folder":
            path.mkdir()
    elif how == "foreign":
        shutil.copy(foreign, path)
    elif how == "flipped":
        flipped = bytearray(content)
        for _ in range(draw.choice((1, 8, 64))):
            if flipped:
                flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
    else:
        kept = {"cut": content[: draw.randrange(1, max(2, len(content)))], "emptied": b""}
        path.write_bytes(kept.get(how, bytes(len(content))))
    return True


def _damage_database(path: Path, how: str, change: Callable[[Any], Any], draw: random.Random) -> bool:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if how == "newer":
            if "facts" not in tables:
                return False
            for name, value in database.execute("SELECT * FROM facts").fetchall():
                if name == "version" or (name == "config" and draw.random() < 0.5):
                    text = json.dumps(
                        99 if name == "version" else json.dumps(newer(json.loads(json.loads(value))))
                    )
                    database.execute("UPDATE facts SET value = ? WHERE name = ?", (text, name))
                    if name == "config":
                        break
            return True
        table = draw.choice(tables)
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        if not rows:
            return False
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        row, column = draw.choice(rows), names[-1]
        try:
            value = json.loads(row[-1])
        except (TypeError, ValueError):
            text = "no document"
        else:
            nested = isinstance(value, str) and value.startswith("{")
            text = json.dumps(json.dumps(change(json.loads(value))) if nested else change(value))
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {names[0]} = ?", (text, row[0]))
    return True
