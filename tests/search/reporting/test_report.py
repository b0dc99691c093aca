"""The front and the best of each method, as tables and as a picture."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.reporting.report import front_rows, front_table, method_rows, methods_table, plot_front
from trainables.memory import MemoryReport

GIB = 2**30
DEPTHS = {"text": 6, "image": 12}


@pytest.fixture
def history() -> History:
    """Four finished trials of three methods; the costlier ``wander`` is dominated."""
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    _add(history, "a", 1, 0.5, {"method": "linear", "learning_rate": 3e-3})
    _add(history, "b", 2, 0.7, {"method": "wander", "width": 64, "cp": "sum", "learning_rate": 2e-3})
    _add(history, "c", 4, 0.6, {"method": "wander", "width": 8, "cp": "sum", "learning_rate": 2e-3})
    _add(history, "d", 6, 0.9, {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 1e-3})
    return history


def _add(history: History, name: str, gib: int, accuracy: float, config: dict[str, Any]) -> None:
    report = MemoryReport(gib * GIB, gib * GIB, 0, 0, 0, 0, trainable_parameters=10**6, checkpoint=4 * 10**6)
    record = TrialRecord(name, config, report, run_id=name * 12, test={"accuracy": accuracy - 0.1})
    history.add(record)
    history.note(record, {"epoch": 1, "accuracy": accuracy, "macro_f1": accuracy, "loss": 1.0})
    history.settle(record, Status.FINISHED)


def _shown(table: Any) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text().splitlines()


def test_a_front_of_several_methods_names_them_and_their_settings(history) -> None:
    table, settings = front_table(front_rows(history), DEPTHS, "front", 120)
    rows = [line for line in _shown(table) if " M " in line]
    assert [line.split()[4:6] for line in rows] == [["M", "linear"], ["M", "wander"], ["M", "pmf"]]
    assert settings[1] == "bbbbbbbb  wander: width=64, cp=sum, lr=0.002"


def test_a_front_of_one_method_has_a_column_a_setting(history) -> None:
    rows = [row for row in front_rows(history) if row["config"]["method"] == "pmf"]
    table, settings = front_table(rows, DEPTHS, "front", 120)
    lines = _shown(table)
    assert any("L_f" in line for line in lines)
    assert any("4/10" in line for line in lines)
    assert settings == []


def test_settings_that_do_not_fit_are_listed_below(history) -> None:
    rows = [row for row in front_rows(history) if row["config"]["method"] == "wander"]
    needed = max(len(line.rstrip()) for line in _shown(front_table(rows, DEPTHS, "front", 120)[0]))
    assert front_table(rows, DEPTHS, "front", 120)[1] == []
    table, settings = front_table(rows, DEPTHS, "front", needed - 1)
    assert max(len(line.rstrip()) for line in _shown(table)) < needed
    assert settings == ["bbbbbbbb  wander: width=64, cp=sum, lr=0.002"]


def test_the_best_of_each_method_best_first(history) -> None:
    rows = method_rows(history)
    assert [(row["config"]["method"], row["trials"], row["on_front"]) for row in rows] == [
        ("pmf", 1, True),
        ("wander", 2, True),
        ("linear", 1, True),
    ]
    assert rows[1]["accuracy"] == 0.7
    shown = [line for line in _shown(methods_table(rows)) if " M " in line]
    assert [line.split()[6] for line in shown] == ["pmf", "wander", "linear"]
    assert "0.900  0.800   6.000   1.00 M" in shown[0]


def test_the_best_is_by_what_training_decides() -> None:
    history = History(get_objectives(("params", "loss")), {"params": 1e9, "loss": 3.0})
    for name, loss in (("a", 0.9), ("b", 0.4)):
        _add(history, name, 1, 0.5, {"method": "linear", "learning_rate": 1e-3, "name": name})
        history.trials[name].epochs[-1]["loss"] = loss
    assert [row["trial_id"] for row in method_rows(history)] == ["b"]


def test_a_picture_of_several_methods(history, tmp_path) -> None:
    plot_front(history, tmp_path / "front.svg", "all", max_memory=5 * GIB)
    drawn = (tmp_path / "front.svg").read_text()
    for words in ("linear", "wander", "pmf", "budget"):
        assert f"<!-- {words} -->" in drawn
