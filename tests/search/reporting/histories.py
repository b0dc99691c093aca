"""What a search may have found, without a search."""

from __future__ import annotations

from typing import Any

from search.goals.constraints import Constraint
from search.goals.objectives import get_objectives
from search.records.history import PROBE, History, TrialRecord
from search.records.status import Status
from trainables.memory import MemoryReport

GIB = 2**30


def of_three_methods(*constraints: Constraint) -> History:
    """Four finished trials of three methods; the costlier ``wander`` is dominated."""
    history = History(get_objectives(("memory", "accuracy")), {"memory": 8.0, "accuracy": 0.0}, constraints)
    add(history, "a", 1, 0.5, {"method": "linear", "learning_rate": 3e-3})
    add(history, "b", 2, 0.7, {"method": "wander", "width": 64, "cp": "sum", "learning_rate": 2e-3})
    add(history, "c", 4, 0.6, {"method": "wander", "width": 8, "cp": "sum", "learning_rate": 2e-3})
    add(history, "d", 6, 0.9, {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 1e-3})
    return history


def add(
    history: History,
    name: str,
    gib: int,
    accuracy: float,
    config: dict[str, Any],
    step_time: float = 0.1,
    **others: Any,
) -> TrialRecord:
    """Add a finished trial."""
    report = MemoryReport(gib * GIB, gib * GIB, 0, 0, 0, 0, trainable_parameters=10**6, checkpoint=4 * 10**6)
    test = {"accuracy": accuracy - 0.1, "macro_f1": accuracy - 0.2, "loss": 1.5}
    record = TrialRecord(name, config, report, **{"run_id": name * 12, "test": test, **others})
    history.add(record)
    metrics = {"accuracy": accuracy, "macro_f1": accuracy, "loss": 1.0, "step_time": step_time}
    history.note(record, {"epoch": 1, **metrics})
    history.settle(record, Status.FINISHED)
    return record


def probes(history: History, gib: float, accuracy: float, **single: float) -> None:
    """Give a history probes with test values: one of all modalities, and one of each that is named."""

    def probe(name: str, size: float, value: float, **poolings: str) -> TrialRecord:
        total = round(size * GIB)
        config = {"method": name, "strength": 0.1, **{f"pooling.{m}": p for m, p in poolings.items()}}
        return TrialRecord(
            name,
            config,
            MemoryReport(total, total, 0, 0, 0, 0, trainable_parameters=1000, checkpoint=4000),
            status=Status.FINISHED,
            kind=PROBE,
            epochs=[{"accuracy": value, "macro_f1": value, "loss": 1 - value, "epoch": 1.0, "time": 0.0}],
            test={"accuracy": value - 0.05, "macro_f1": value - 0.05, "loss": 1.5},
        )

    joint = probe("probe", gib, accuracy, **dict.fromkeys(single, "cls"))
    alone = [probe(f"probe:{name}", gib / 2, value, **{name: "cls"}) for name, value in single.items()]
    best = probe("probe", gib, accuracy + 0.02, **dict.fromkeys(single, "cls+mean"))
    history.take_probes([joint, *alone, best])
