"""The front and the best of each method, as tables for the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from search.goals.constraints import parse_constraints
from search.goals.luck import Luck
from search.goals.objectives import always_reported, get_objectives
from search.records.history import History
from search.reporting.rows import front_rows, memory_rows, method_rows, probe_row, unmet_rows
from search.reporting.tables import (
    front_table,
    memory_line,
    methods_table,
    probe_lines,
    robustness_table,
    time_line,
    training_table,
    unmet_line,
)
from tests.search.reporting.histories import add, of_three_methods, probes
from tests.tasks import classification

DEPTHS = {"text": 6, "image": 12}


@pytest.fixture
def history() -> History:
    return of_three_methods()


def _shown(table: Any) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text().splitlines()


def test_a_front_of_several_methods_names_them_and_their_settings(history) -> None:
    table, settings = front_table(front_rows(history), history.shown, DEPTHS, "front", 120)
    rows = [line for line in _shown(table) if " M " in line]
    assert [line.split()[4:6] for line in rows] == [["M", "linear"], ["M", "wander"], ["M", "pmf"]]
    assert settings[1] == "bbbbbbbb  wander: width=64, cp=sum, lr=0.002"


def test_a_front_of_one_method_has_a_column_a_setting(history) -> None:
    rows = [row for row in front_rows(history) if row["config"]["method"] == "pmf"]
    table, settings = front_table(rows, history.shown, DEPTHS, "front", 120)
    lines = _shown(table)
    assert any("L_f" in line for line in lines)
    assert any("4/10" in line for line in lines)
    assert settings == []


def test_columns_move_closer_before_settings_are_listed_below(history) -> None:
    rows = [row for row in front_rows(history) if row["config"]["method"] == "wander"]

    def shown(width: int) -> tuple[list[str], list[str]]:
        table, settings = front_table(rows, history.shown, DEPTHS, "front", width)
        return [line.rstrip() for line in _shown(table)], settings

    wide, settings = shown(120)
    needed = max(map(len, wide))
    assert settings == []
    close, settings = shown(needed - 1)
    assert settings == []
    assert [line.split() for line in close] == [line.split() for line in wide]
    narrow, settings = shown(max(map(len, close)) - 1)
    assert max(map(len, narrow)) < max(map(len, close)) < needed
    assert settings == ["bbbbbbbb  wander: width=64, cp=sum, lr=0.002"]


def test_robustness_of_the_front(history) -> None:
    assert robustness_table(front_rows(history), history.shown) is None
    history.trials["a"].robustness = {m: {"accuracy": v} for m, v in (("text", 0.3), ("image", 0.4))}
    table = robustness_table(front_rows(history), history.shown)
    lines = [line.split() for line in _shown(table)]
    assert lines[0] == ["test", "accuracy", "without", "a", "modality"]
    assert lines[2][:3] == ["present", "text", "image"]
    assert lines[3:] == [
        ["0.400", "0.300", "0.400", "linear", "aaaaaaaa"],
        ["0.600", "-", "-", "wander", "bbbbbbbb"],
        ["0.800", "-", "-", "pmf", "dddddddd"],
    ]


def test_the_best_of_each_method_best_first(history) -> None:
    rows = method_rows(history)
    assert [(row["config"]["method"], row["trials"], row["on_front"]) for row in rows] == [
        ("pmf", 1, True),
        ("wander", 2, True),
        ("linear", 1, True),
    ]
    assert rows[1]["accuracy"] == 0.7
    shown = [line for line in _shown(methods_table(rows, history.shown)) if " M " in line]
    assert [line.split()[6] for line in shown] == ["pmf", "wander", "linear"]
    assert "0.900  0.800   6.000   1.00 M" in shown[0]


def test_headings_say_what_and_in_which_unit(history) -> None:
    table, _ = front_table(front_rows(history), history.shown, DEPTHS, "front", 120)
    assert [column.header for column in table.columns] == [
        "memory\nGiB",
        "val\nacc",
        "test\nacc",
        "trained\nparams",
        "method",
        "MLflow\nrun id",
    ]
    table = methods_table(method_rows(history), history.shown)
    assert [column.header for column in table.columns][:4] == [
        "val\nacc",
        "test\nacc",
        "memory\nGiB",
        "trained\nparams",
    ]


def test_every_objective_has_its_columns() -> None:
    objectives = get_objectives(("loss", "params", "checkpoint"))
    reference = {"loss": 3.0, "params": 1e9, "checkpoint": 9.0}
    history = History(objectives, reference, reported=always_reported(classification(2)))
    add(history, "a", 1, 0.5, {"method": "linear", "learning_rate": 1e-3}, inherited={"accuracy": 0.4})
    table, _ = front_table(front_rows(history), history.shown, DEPTHS, "front", 120)
    shown = {column.header.replace("\n", " "): next(iter(column.cells)) for column in table.columns}
    assert shown == {
        "memory GiB": "1.000",
        "inher. acc": "0.400",
        "val acc": "0.500",
        "test acc": "0.400",
        "val loss": "1.000",
        "test loss": "1.500",
        "checkpoint MiB": "3.815",
        "trained params": "1.00 M",
        "MLflow run id": "aaaaaaaa",
    }


def test_standard_errors_stand_behind_what_is_not_exact() -> None:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    for name, accuracy, repeats in (("a", 0.5, None), ("b", 0.7, "a")):
        config = {"method": "linear", "learning_rate": 1e-3}
        add(history, name, 1, accuracy, config, repeat_of=repeats)
    table, _ = front_table(front_rows(history), history.shown, DEPTHS, "front", 120)
    assert "1.000  0.600 ±.100  0.500   1.00 M" in "\n".join(_shown(table)), "that of the mean of two seeds"


def test_what_is_luck_is_told_beside_each_member(history) -> None:
    for name, chance in (("a", 1.0), ("b", 0.876), ("d", None)):
        errors = {"accuracy": 0.0241, "test_accuracy": 0.0252} if chance else {}
        history.trials[name].luck = Luck(chance, None, errors)
    table, _ = front_table(front_rows(history), history.shown, DEPTHS, "front", 120)
    shown = [line.split() for line in _shown(table) if " M " in line]
    assert [line[1:-2] for line in shown] == [
        ["0.500", "±.024", "0.400", "1.00", "M", "1.00"],
        ["0.700", "±.024", "0.600", "1.00", "M", "0.88"],
        ["0.900", "0.800", "1.00", "M", "-"],
    ]
    assert "p\nfront" in [column.header for column in table.columns]
    best = [line for line in _shown(methods_table(method_rows(history), history.shown)) if " M " in line]
    assert "0.700 ±.024" in best[1]


def test_a_line_says_what_the_nearest_trial_misses() -> None:
    history = of_three_methods(*parse_constraints(["accuracy>=95%", "memory<=1.5GiB", "params<=999k"]))
    assert unmet_line(unmet_rows(history)) == (
        "no trial met the constraints: the nearest, a, misses accuracy>=95% by 45% (it has 50%) and "
        "params<=999k by 1k (it has 1M)"
    )


def _measured(**metrics: float) -> History:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0})
    for name in "ab":
        record = add(history, name, 1, 0.5, {"method": name})
        record.epochs[-1] |= {"expected_memory": 0.5, **metrics}
    return history


def test_the_error_is_of_steps_with_texts_as_long_as_predicted() -> None:
    line = memory_line(memory_rows(_measured(measured_memory=0.55)))
    assert line.startswith("memory, measured against predicted in 2 trials: off by 10.0% in the median")


def test_on_a_gpu_what_the_allocator_reserves_is_compared_too() -> None:
    rows = memory_rows(_measured(measured_memory=0.55, expected_reserved=0.8, reserved_memory=0.84))
    assert [row["reserved_error"] for row in rows] == pytest.approx([0.05, 0.05])
    assert memory_line(rows).endswith(
        "10.0% at most; what the allocator reserves: by 5.0% in the median, 5.0% at the 90th percentile, "
        "5.0% at most"
    )
    shorter = memory_rows(_measured(measured_shorter=0.4, expected_reserved=0.8, reserved_memory=0.5))
    assert {row["reserved_error"] for row in shorter} == {None}


def test_what_steps_with_shorter_texts_need_is_said_to_be_at_most_the_predicted() -> None:
    rows = memory_rows(_measured(measured_shorter=0.4))
    assert [(row["measured"], row["error"]) for row in rows] == [(0.4, None)] * 2
    assert memory_line(rows) == (
        "memory, measured in 2 trials without a batch of the full text length: at most 80.0% of the predicted"
    )


def test_memory_that_was_not_measured_has_no_error(history) -> None:
    assert memory_line(memory_rows(history)).startswith("memory was not measured")


def test_small_parts_of_the_wall_time_are_left_out() -> None:
    spent = {"set-up": 3.2, "data": 0.3, "training": 65.0}
    assert time_line(spent) == "wall time 1 min 08 s: 3 s set-up, 1 min 05 s training"


def test_a_probe_on_the_front_is_named_beside_the_settings_of_a_single_method(history) -> None:
    one = History(history.objectives, history.reference)
    add(one, "d", 6, 0.9, {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 1e-3})
    probes(one, 1.5, 0.7, text=0.4)
    table, settings = front_table(front_rows(one), one.shown, DEPTHS, "front", 120)
    lines = _shown(table)
    (probe,) = (line.split() for line in lines if " probe " in line)
    (found,) = (line.split() for line in lines if " pmf " in line)
    assert probe[:4] == ["1.500", "0.700", "0.650", "0.00"]
    assert probe[-3:] == ["-", "-", "-"], "no layers, no rate, no run so far"
    assert "4/10" in found
    assert any("L_f" in line for line in lines)
    assert settings == []


def test_lines_about_the_probe(history) -> None:
    probes(history, 1.5, 0.7, text=0.4, image=0.55)
    row = probe_row(history)
    assert row is not None
    assert probe_lines(row, history.shown) == [
        "probe: memory GiB 1.500, val acc 0.700, test acc 0.650, trained params 0.00 M (text cls, image cls)",
        "best over all readings: val acc 0.720, test acc 0.670 (text cls+mean, image cls+mean)",
    ]


def test_a_training_shows_the_spread_over_its_seeds(history) -> None:
    row = {**front_rows(history)[0], "seeds": 3, "spread": {"accuracy": 0.02, "test_accuracy": 0.03}}
    lines = [line for line in _shown(training_table(row, history.shown, "training 'mine'")) if "│" in line]
    cells = {
        cell[0].strip(): [text.strip() for text in cell[1:]] for cell in (x.split("│")[1:-1] for x in lines)
    }
    assert cells["accuracy"] == ["0.500 ± 0.020", "0.400 ± 0.030"]
    assert cells["memory GiB"] == ["1.000", ""]
    assert cells["trained parameters"] == ["1,000,000", ""]
    alone = "".join(_shown(training_table({**row, "seeds": 1}, history.shown, "")))
    assert "0.500 │" in alone, "no spread of a single seed is known"
