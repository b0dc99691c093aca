"""``benchmarks/damage.py`` damages what it says, and in the same way for the same seed."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path

import pytest


def _outcome(path: Path) -> bytes | str:
    return "folder" if path.is_dir() else path.read_bytes() if path.exists() else "missing"


@pytest.mark.parametrize("how", importlib.import_module("benchmarks.damage").DAMAGES)
def test_damage(how, tmp_path) -> None:
    damage = importlib.import_module("damage").damage
    content = json.dumps({"version": 1, "values": [1, 2, 3]})
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"foreign")
    found = []
    for name in ("first.json", "second.json"):
        path = tmp_path / name
        path.write_text(content)
        assert damage(path, how, foreign, random.Random(1))
        found.append(_outcome(path))
    assert found[0] == found[1] != content.encode()
    expected = {"foreign": b"foreign", "emptied": b"", "zeroed": bytes(len(content))}
    expected |= {"folder": "folder", "missing": "missing"}
    assert found[0] == expected.get(how, found[0])
    if how in ("newer", "twisted"):
        json.loads(found[0])
