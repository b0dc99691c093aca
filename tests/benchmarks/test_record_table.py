"""A short form of ``benchmarks/record_table.py``: what it records is what training reports."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from search.replay import ReplayTable
from tests.conftest import ROOT


@pytest.mark.full
def test_a_table_holds_all_epochs_of_each_trial(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_table: Any = importlib.import_module("record_table")
    out = workplace / "table.parquet"
    options = ["--space", "linear", "--trials", "2", "--epochs", "2", "--workers", "1", "--rows", "16,8,4"]
    monkeypatch.setattr("sys.argv", ["record_table.py", *options, "--out", str(out)])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    record_table.main()

    described = json.loads(pq.read_schema(out).metadata[b"paretofuse"])
    assert described["rows"] == {"train": 16, "validation": 8, "test": 4}
    setting = {
        "target": "cpu",
        "batch_size": 16,
        "text_length": 16,
        "image_size": 56,
        "precision": "bf16-frozen",
    }
    assert described["setting"] == described["setting"] | setting
    table = ReplayTable.read(out)
    assert (table.space, table.epochs, len(table.rows)) == ("linear", 2, 2)
    configs = [row.config for row in table.rows]
    assert configs[0] != configs[1]
    for row in table.rows:
        assert [epoch["epoch"] for epoch in row.epochs] == [1, 2]
        assert all(0 <= epoch["accuracy"] <= 1 and epoch["epoch_seconds"] > 0 for epoch in row.epochs)
