"""Checks that every objective must pass: its entry must suffice to constrain, rank, report and draw it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from search.goals.constraints import parse_constraint
from search.goals.objectives import (
    MEMORY,
    OBJECTIVES,
    Objective,
    available_objectives,
    known_values,
    late_reference,
    normalised,
    reference_values,
    register_objective,
)
from search.goals.pareto import hypervolume, non_dominated
from search.goals.quantities import quantity_of
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.reporting.front_picture import plot_front
from search.reporting.rows import front_rows, method_rows
from search.reporting.tables import front_table, methods_table
from search.units import GIB
from trainables.memory import MemoryReport

#: Values that Ray Tune adds to a trial's report.
_FROM_TUNE = {
    "training_iteration": 1,
    "time_this_iter_s": 0.5,
    "time_total_s": 0.5,
    "time_since_restore": 0.5,
    "iterations_since_restore": 1,
    "timestamp": 1_700_000_000,
    "pid": 4711,
    "done": False,
    "should_checkpoint": True,
    "trial_id": "a1",
    "hostname": "here",
    "node_ip": "127.0.0.1",
    "config": {"learning_rate": 0.1},
}


@contextlib.contextmanager
def registered(objective: Objective) -> Iterator[Objective]:
    """Register an objective inside the ``with`` statement."""
    register_objective(objective)
    try:
        yield objective
    finally:
        del OBJECTIVES[objective.name]


def check_objective(objective: Objective) -> None:
    """Run all checks of an objective.

    Args:
        objective: A registered objective, or that of a task's metric.

    Raises:
        AssertionError: If a check fails.
    """
    assert available_objectives().get(objective.name) == objective, "it is not registered"
    check_scale(objective)
    check_constraints(objective)
    check_reports(objective)


def check_scale(objective: Objective) -> None:
    """Check that the ideal is scaled to 0 and the reference to 1, and that better values are smaller."""
    assert objective.direction in ("minimize", "maximize")
    values = _example_values(objective)
    losses = [objective.loss(value) for value in values]
    assert losses == sorted(losses)
    assert losses[0] >= objective.loss(objective.ideal), "no value is better than the ideal"
    reference = _reference(objective, values)
    scaled = [normalised((objective,), reference, {objective.name: value})[0] for value in values]
    assert scaled == sorted(scaled)
    assert all(0 <= loss <= 1 for loss in scaled)
    assert normalised((objective,), reference, {objective.name: objective.ideal}) == (0,)
    assert math.isclose(normalised((objective,), reference, reference)[0], 1)


def check_constraints(objective: Objective) -> None:
    """Check that a bound is written and read in the objective's unit, and separates good from bad values."""
    best, *_, worst = _example_values(objective)
    kept = "<=" if objective.direction == "minimize" else ">="
    bound = (best + worst) / 2
    text = f"{objective.name}{kept}{quantity_of(objective).write(bound)}"
    constraint = parse_constraint(text)
    assert str(constraint) == text
    assert math.isclose(constraint.bound, bound, rel_tol=1e-3)
    assert constraint.known == objective.known
    assert constraint.violation({objective.name: best}) < 0 < constraint.violation({objective.name: worst})


def check_reports(objective: Objective) -> None:
    """Check that reported values are kept, and that front, documents, tables and picture show them."""
    history, records = _searched(objective)
    name, values = objective.name, [record.values[objective.name] for record in history.trials.values()]
    assert values == _example_values(objective)
    for record in records:  # epochs hold only reported numbers
        assert set(record.epochs[-1]) == {"epoch", "time"} | (set() if objective.known else {name})

    front = history.front()
    losses = [history.losses(record.values) for record in records]
    assert {record.trial_id for record in front} == {records[i].trial_id for i in non_dominated(losses)}
    points = [normalised(history.objectives, history.reference, record.values) for record in front]
    assert 0 < history.hypervolume() == hypervolume(points, [1.0, 1.0]) < 1
    assert history.best()[name] == values[0]

    rows = front_rows(history)
    assert json.loads(json.dumps(rows)) == rows
    assert [row[name] for row in rows] == [record.values[name] for record in front]
    assert all((f"test_{name}" in row) == objective.tested for row in rows)

    heading = (objective.short or name).replace("_", " ")
    symbol = quantity_of(objective).symbol
    shown, _ = front_table(rows, history.shown, {}, "front", 200)
    for table in (shown, methods_table(method_rows(history), history.shown)):
        headings = [" ".join(str(column.header).split()) for column in table.columns]
        assert any(f"{heading} {symbol}".strip() in words for words in headings)
        assert quantity_of(objective).cell(values[0]) in _printed(table)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "front.svg"
        plot_front(history, path, "front")
        label = (objective.title or name) + (f" ({symbol})" if symbol else "")
        assert f"<!-- {label} -->" in path.read_text()


def _example_values(objective: Objective) -> list[float]:
    """Return three values between the ideal and the worst one, best first."""
    if objective.value is not None:
        return [known_values(report)[objective.name] for report in _example_reports(objective)]
    if objective.worst is not None:
        span = objective.worst - objective.ideal
        return [objective.ideal + share * span for share in (0.25, 0.375, 0.5)]
    sign = 1 if objective.direction == "minimize" else -1
    return [objective.ideal + sign * distance for distance in (0.25, 0.5, 0.75)]


def _example_reports(objective: Objective) -> list[MemoryReport]:
    """Return three memory reports: best first if they decide the value, else the largest first."""
    reports = [
        MemoryReport(
            total=5 * size * GIB,
            weights=size * GIB,
            gradients=size * GIB,
            optimizer=size * GIB,
            activations=size * GIB,
            temporary=size * GIB,
            trainable_parameters=size * 10**6,
            checkpoint=4 * size * 10**6,
            inference=2 * size * GIB,
        )
        for size in (3, 2, 1)
    ]
    if not objective.known:
        return reports
    return sorted(reports, key=lambda report: objective.loss(known_values(report)[objective.name]))


def _reference(objective: Objective, values: Sequence[float]) -> dict[str, float]:
    """Return the reference of a search with the given values, best first."""
    reference = reference_values((objective,), {objective.name: 1.1 * max(values)}, {})
    if not objective.known and objective.worst is None:
        late = late_reference(objective, {objective.name: values[0]})
        assert late is not None
        reference = {objective.name: late}
    return reference


def _searched(objective: Objective) -> tuple[History, list[TrialRecord]]:
    """Return the history of a search by two objectives whose trials have the example values, in order."""
    other = OBJECTIVES["params"] if objective == MEMORY else MEMORY
    values, reports = _example_values(objective), _example_reports(objective)
    others = [known_values(report)[other.name] for report in reports]
    reference = {**_reference(objective, values), **_reference(other, others)}
    history = History((other, objective), reference)
    for number, (value, report) in enumerate(zip(values, reports, strict=True)):
        config = {"method": "linear", "learning_rate": 10.0**-number}
        record = TrialRecord(f"trial-{number:03d}", config, report)
        history.add(record)
        told = {} if objective.known else {objective.name: value}
        history.note(record, {"epoch": 1, **told, **_FROM_TUNE})
        record.test = {objective.name: value} if objective.tested else {}
        history.settle(record, Status.FINISHED)
    return history, list(history.trials.values())


def _printed(table: Any) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()
