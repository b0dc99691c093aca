"""What benchmarks recorded before: it is kept, and never mixed with results for other settings."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

#: Options of each benchmark that keeps results, the option that names its file, and the file's settings.
BENCHMARKS = {
    "worth": ([], "--out", {"folds": 5, "image_size": 84, "precision": "fp32"}),
    "few_shot": ([], "--out", {"settings": {"epochs": None, "image_size": None, "precision": "fp32"}}),
    "oneshot": ([], "--json", {"settings": {"precision": "fp32"}}),
    "inherited": ([], "--out", {"settings": {"precision": "fp32"}}),
    "kills": (["--only", "trained random/none"], "--out", {"seed": 1}),
    "driver_time": ([], "--out", {"at_once": 4}),
    "engine": (["--engines", "ours random+none"], "--out", {"cap": 40}),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_results_for_other_settings_are_refused_and_kept(
    name: str, run, tmp_path: Path, monkeypatch, capsys
) -> None:
    benchmark: Any = importlib.import_module(name)
    if hasattr(benchmark, "step_precision"):
        monkeypatch.setattr(benchmark, "step_precision", lambda: "bf16-frozen")
    options, out, document = BENCHMARKS[name]
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SystemExit) as ended:
        run(name, *options, out=out)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"{path} holds results for other settings (" in message
    if "precision" in path.read_text():
        assert "(precision fp32, not bf16-frozen)" in message
    assert json.loads(path.read_text()) == document


def test_a_setting_that_a_document_lacks_may_have_any_value(tmp_path: Path) -> None:
    kept: Any = importlib.import_module("kept")
    parser, path = argparse.ArgumentParser(), tmp_path / "found.json"
    assert kept.kept_document(parser, path, {"seed": 0}) == {}
    path.write_text(json.dumps({"seed": 0, "results": [1]}))
    assert kept.kept_document(parser, path, {"seed": 0, "nas": 12}) == {"seed": 0, "results": [1]}


def test_a_journal_keeps_whole_lines_and_refuses_other_settings(tmp_path: Path, capsys) -> None:
    kept: Any = importlib.import_module("kept")
    parser, path = argparse.ArgumentParser(), tmp_path / "table.jsonl"
    settings = {"epochs": 5, "precision": "fp32"}
    assert kept.kept_journal(parser, path, settings) == []
    with path.open("a") as file:
        file.write('{"number": 0}\n{"numb')  # killed while it wrote
    assert kept.kept_journal(parser, path, settings) == [{"number": 0}]
    with path.open("a") as file:
        file.write('{"number": 1}\n')
    assert kept.kept_journal(parser, path, settings) == [{"number": 0}, {"number": 1}]

    before = path.read_text()
    with pytest.raises(SystemExit) as ended:
        kept.kept_journal(parser, path, {"epochs": 5, "precision": "bf16-frozen"})
    assert ended.value.code == 2
    assert "results for other settings (precision fp32, not bf16-frozen)" in capsys.readouterr().err
    assert path.read_text() == before

    path.write_text('{"number": 0}\n')
    with pytest.raises(SystemExit):
        kept.kept_journal(parser, path, settings)
    assert "results for other settings (epochs None, not 5; precision None" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "native", "told"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_a_precision_that_is_emulated_is_told(
    precision: str, native: bool, told: bool, monkeypatch, capsys
) -> None:
    kept: Any = importlib.import_module("kept")
    monkeypatch.setattr("trainables.step.precision.device_computes_in_bf16", lambda device: native)
    kept.tell_if_emulated(precision)
    line = "bfloat16 is not native on this machine, so that bf16 is slow\n"
    assert capsys.readouterr().out == (line if told else "")
