"""The front, the best trial of each method, and memory, as rows of documents."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean, stdev
from typing import Any

from search.goals.constraints import Constraint
from search.records.history import PROBE, History, TrialRecord
from search.records.status import Status


def front_rows(history: History) -> list[dict[str, Any]]:
    """Return the front as rows of the JSON document, see ``SearchResult.to_dict``.

    Values are means over the trials of a configuration. ``seeds`` is the number of these trials. If there are
    several, ``spread`` holds their standard deviations. ``weights`` is the path of a checkpoint in the
    search's folder: that of the best one, see ``History.best_run``. ``model`` is the path of its model there,
    or None. ``node`` says where the first one ran last. ``p_front`` and ``p_better`` are those of ``Luck``.
    ``robustness`` holds the test metrics with each modality taken away, by modality. ``standard_error`` holds
    the standard errors that are known, by the name of the value. Probes that are on the front are among the
    rows.
    """
    return [row_of(record, history) for record in history.front()]


def probe_row(history: History) -> dict[str, Any] | None:
    """Return the probe as a row like those of the front, or None if there is none.

    Further entries are ``on_front``; ``modalities``, with such a row for the probe of each modality; and
    ``best_reading``, the row of the best probe over all ways of reading the encoders, which is never on the
    front and has no memory and no run of its own.
    """
    if not history.probes:
        return None
    front = {record.trial_id for record in history.front()}
    rows = {
        name: {**row_of(probe, history), "on_front": name in front} for name, probe in history.probes.items()
    }
    assert history.best_probe is not None
    best = row_of(history.best_probe, history)
    trained = [objective.name for objective in history.shown if not objective.known]
    measured = [key for name in trained for key in (name, f"test_{name}") if key in best]
    measured.append("standard_error")
    return {
        **rows.pop(PROBE),
        "modalities": {name.removeprefix(f"{PROBE}:"): row for name, row in rows.items()},
        "best_reading": {**{key: best[key] for key in measured}, "config": best["config"]},
    }


def probe_table(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the row of ``probe_row`` with the rows inside of it, as rows of a table."""
    inner = ("modalities", "best_reading")
    own = {key: value for key, value in row.items() if key not in inner}
    return [own, *row["modalities"].values(), {"trial_id": "best reading", **row["best_reading"]}]


def method_rows(history: History) -> list[dict[str, Any]]:
    """Return the best finished trial of each method, best first, as rows like those of the front.

    Trials are compared by the first objective that training decides. Each row also has ``trials``, the number
    of the method's finished trials, and ``on_front``.
    """
    front = {record.trial_id for record in history.front()}
    trials = Counter(record.config["method"] for record in history.by_status(Status.FINISHED))
    return [
        {
            **row_of(record, history),
            "trials": trials[record.config["method"]],
            "on_front": record.trial_id in front,
        }
        for record in history.best_of_methods()
    ]


def memory_rows(history: History) -> list[dict[str, Any]]:
    """Return predicted and measured memory, in GiB, of every trial whose memory was measured.

    ``memory`` is for the search's target. ``expected`` and ``measured`` are the tensors of a step where the
    trial ran, see ``node``; ``expected_reserved`` and ``reserved`` are what a GPU's allocator holds for them.
    ``error`` and ``reserved_error`` are None if all texts of the measured steps were shorter than predicted.
    """
    return [
        {
            "trial_id": record.trial_id,
            "run_id": record.run_id,
            "memory": record.values["memory"],
            "expected": record.epochs[-1]["expected_memory"],
            "measured": record.epochs[-1].get("measured_memory") or record.epochs[-1]["measured_shorter"],
            "expected_reserved": record.epochs[-1].get("expected_reserved"),
            "reserved": record.epochs[-1].get("reserved_memory"),
            "error": record.memory_error,
            "reserved_error": record.reserved_error,
            "node": _node(record),
            "config": dict(record.config),
        }
        for record in history.trials.values()
        if record.epochs
        and "expected_memory" in record.epochs[-1]
        and not {"measured_memory", "measured_shorter"}.isdisjoint(record.epochs[-1])
    ]


def unmet_rows(history: History) -> list[dict[str, Any]]:
    """Return the constraints that the nearest trial misses, if trials finished and none satisfies all.

    Nearest is the trial with the smallest sum of relative violations. Each row has ``constraint``,
    ``trial_id``, the trial's value as ``nearest``, and ``missed_by``, both in the objective's unit.
    """
    finished = history.configurations()
    if history.front(probes=False) or not finished:
        return []

    def missed(record: TrialRecord) -> dict[Constraint, float]:
        values = history.values(record)
        violations = {c: c.violation(values) for c in history.constraints if c.name in values}
        return {constraint: violation for constraint, violation in violations.items() if violation > 0}

    nearest = min(finished, key=lambda record: sum(missed(record).values()))
    return [
        {
            "constraint": str(constraint),
            "trial_id": nearest.trial_id,
            "nearest": history.values(nearest)[constraint.name],
            "missed_by": violation * constraint.bound,
        }
        for constraint, violation in missed(nearest).items()
    ]


def row_of(record: TrialRecord, history: History) -> dict[str, Any]:
    """Return a configuration as a row of the front, see ``front_rows``; it need not be a member."""
    values = history.values(record)
    runs = history.finished(record)
    tests = test_values(record, history)
    row: dict[str, Any] = {"trial_id": record.trial_id, "run_id": record.run_id}
    for objective in history.shown:
        row[objective.name] = values.get(objective.name)  # a probe has no step time
        if objective.tested:
            row[f"test_{objective.name}"] = tests.get(objective.name)
    for objective in history.shown:
        if objective.name in record.inherited:
            row[f"inherited_{objective.name}"] = record.inherited[objective.name]
    row |= {
        "trainable_parameters": record.memory.trainable_parameters,
        "seeds": len(runs),
        "weights": history.best_run(record).checkpoint,
        "model": record.model,
        "node": _node(record),
        "p_front": record.luck.p_front if record.luck else None,
        "p_better": record.luck.p_better if record.luck else None,
        "standard_error": standard_errors(record, history),
        "robustness": robustness(record, history),
        "config": dict(record.config),
    }
    if len(runs) > 1:
        spreads = history.spreads(record)
        row["spread"] = {name: spreads[name] for name in row if name in spreads}
        for objective in history.shown:
            if objective.tested:
                name = objective.name
                scored = [run.test[name] for run in runs if name in run.test]
                row["spread"][f"test_{name}"] = stdev(scored) if len(scored) > 1 else None
    return row


def _node(record: TrialRecord) -> dict[str, str] | None:
    """Return the address and name of the node where a trial ran last, and its device; None if unknown."""
    return record.stays[-1].place if record.stays else None


def standard_errors(record: TrialRecord, history: History) -> dict[str, float]:
    """Return a configuration's standard errors: those of its luck, or else of its seeds if it has several.

    Args:
        record: A trial of the configuration.
        history: The trials.

    Returns:
        Standard errors by the names of objectives that training decides; those on the test split are named
        ``test_…``.
    """
    shown = [objective.name for objective in history.shown if not objective.known]
    spreads, runs = history.spreads(record), len(history.finished(record))
    of_seeds = {name: spreads[name] / math.sqrt(runs) for name in shown if name in spreads}
    return of_seeds | (record.luck.standard_errors if record.luck else {})


def test_values(record: TrialRecord, history: History) -> dict[str, float]:
    """Return a configuration's metrics on the test split: means over its trials; empty if there are none."""
    tests = [run.test for run in history.finished(record) if run.test]
    return {name: fmean(test[name] for test in tests) for name in tests[0]} if tests else {}


def robustness(record: TrialRecord, history: History) -> dict[str, dict[str, float]]:
    """Return a configuration's test metrics without each modality: means over its scored trials.

    Args:
        record: A trial of the configuration.
        history: The trials.

    Returns:
        The values of the objectives that have one on the test split, by modality; empty if unknown.
    """
    runs = [run.robustness for run in history.finished(record) if run.test]
    names = [objective.name for objective in history.shown if objective.tested]
    return {
        modality: {name: fmean(run[modality][name] for run in runs) for name in names}
        for modality in (runs[0] if runs else {})
        if all(modality in run for run in runs)
    }
