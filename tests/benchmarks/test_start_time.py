"""The times of commands: a short form of ``benchmarks/start_time.py``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_measures_whole_commands_and_first_signs(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("start_time")
    out = tmp_path / "start_time.json"
    commands = ["--commands", "encoders", "--space pmf_nas"]
    monkeypatch.setattr(sys, "argv", ["start_time.py", "--repeats", "1", *commands, "--out", str(out)])
    benchmark.main()
    shown = capsys.readouterr().out
    assert [name for name in commands[1:] if name not in shown] == []
    rows = json.loads(out.read_text())["commands"]
    assert list(rows) == commands[1:]
    for name, row in rows.items():
        assert row["first_sign"] > 0
        if benchmark.COMMANDS[name].whole:
            assert row["first_sign"] < row["seconds"]  # the sign that it loads comes before the answer
            assert row["user_seconds"] > 0
        else:
            assert row["seconds"] is None


def test_a_command_that_fails_is_no_measurement(monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("start_time")
    with pytest.raises(RuntimeError, match="--frobnicate ended with exit code 2"):
        benchmark.best(benchmark.Command(("--frobnicate",)), 1, tmp_path)
