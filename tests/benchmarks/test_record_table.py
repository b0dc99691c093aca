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
from trainables.units import MIB


def test_a_budget_in_which_too_few_configurations_fit_is_refused(run, tmp_path: Path, capsys) -> None:
    options = ["--space", "linear", "--trials", "1", "--epochs", "1", "--rows", "16,8,4", "--budget", "1"]
    with pytest.raises(SystemExit) as ended:
        run("record_table", *options)
    assert ended.value.code == 2
    assert "0 of 100 configurations fit 1.0 MiB" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_table_holds_all_epochs_of_each_trial(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_table: Any = importlib.import_module("record_table")
    out = workplace / "table.parquet"
    options = ["--space", "pmf_nas", "--trials", "2", "--epochs", "2", "--workers", "1", "--rows", "16,8,4"]
    options += ["--budget", "230", "--precision", "fp32"]
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
        "precision": "fp32",
    }
    assert described["setting"] == described["setting"] | setting
    table = ReplayTable.read(out)
    assert (table.space, table.epochs, len(table.rows)) == ("pmf_nas", 2, 2)
    configs = [row.config for row in table.rows]
    assert configs[0] != configs[1]
    for row in table.rows:
        assert row.memory.total <= 230 * MIB
        assert [epoch["epoch"] for epoch in row.epochs] == [1, 2]
        assert all(0 <= epoch["accuracy"] <= 1 and epoch["epoch_seconds"] > 0 for epoch in row.epochs)

    journal = out.with_suffix(".jsonl")
    head, failed, done = journal.read_text().splitlines()
    journal.write_text("\n".join([head, json.dumps({**json.loads(failed), "epochs": []}), done]) + "\n")
    record_table.main()  # tries the failed one again, and only that
    assert [row.config for row in ReplayTable.read(out).rows] == configs
    assert len(journal.read_text().splitlines()) == 4
