"""Trials, objectives and parameters of a search, for its report."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

from search.goals.objectives import OBJECTIVES, PARAMS, Objective, known_values
from search.goals.quantities import quantity_of
from search.records.history import History, Infeasible, TrialRecord
from search.records.shelf import State
from search.records.status import Status
from search.reporting.report.source import Source
from search.reporting.rows import robustness, standard_errors, test_values

#: A positive number whose values differ by more than this factor is shown on a logarithmic scale.
_WIDE = 50
#: Most different values of a setting that is no number, above which it is a name rather than a choice.
_CHOICES = 40


def objective_rows(history: History) -> list[dict[str, Any]]:
    """Return the objectives of a report: those of the search, those of every report, and parameters."""
    shown = {o.name: o for o in (*history.objectives, *history.shown, PARAMS)}
    return [
        {
            "name": name,
            "title": objective.title or name.replace("_", " "),
            "short": objective.short or name.replace("_", " "),
            "unit": "%" if objective.unit == "%" else quantity_of(objective).symbol,
            "direction": objective.direction,
            "known": objective.known,
        }
        for name, objective in shown.items()
    ]


def trial_rows(source: Source, models: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return all trials of a search, its probes, and the candidates that were never started.

    Args:
        source: The search.
        models: Path of the model of each member in the search's folder.
    """
    history = source.history
    front = {record.trial_id for record in history.front()}
    shown = (
        *history.objectives,
        *history.shown,
        *map(Objective.of, source.task.metrics),
        *OBJECTIVES.values(),
    )
    names = list(dict.fromkeys(objective.name for objective in shown))
    rows = [
        _row(record, source, front, names, models)
        for record in (*history.probes.values(), *history.trials.values())
    ]
    return [*rows, *(_candidate(n, each) for n, each in enumerate(history.infeasible.values()))]


def _row(
    record: TrialRecord, source: Source, front: set[str], names: list[str], models: Mapping[str, str | None]
) -> dict[str, Any]:
    history = source.history
    finished = history.finished(record)
    # What it repeats may have failed: then it is the first result of its configuration
    of_repeat = record.repeat_of is not None and not any(run is record for run in finished[:1])
    values = record.values if of_repeat else history.values(record)
    runs = [record] if of_repeat else finished
    test = record.test if of_repeat else test_values(record, history)
    luck = None if of_repeat else record.luck
    spread = {} if of_repeat else {n: v for n, v in history.spreads(record).items() if n in names}
    scores = [run.test for run in runs if run.test]
    if len(scores) > 1:
        spread |= {f"test_{n}": stdev([s[n] for s in scores]) for n in names if n in scores[0]}
    return {
        "id": record.trial_id,
        "kind": "repeat" if of_repeat else record.kind,
        "repeat_of": record.repeat_of,
        "method": record.config["method"],
        "status": _status(record, source.state),
        "front": record.trial_id in front,
        "epochs": None if record.trial_id in history.probes else len(record.epochs),
        "seeds": len(runs),
        "config": settings_of(record.config),
        "values": finite({name: values[name] for name in names if name in values}),
        "test": finite({name: test[name] for name in names if name in test}),
        "spread": finite(spread),
        "standard_error": {} if of_repeat else finite(standard_errors(record, history)),
        "p_front": luck.p_front if luck else None,
        "p_better": luck.p_better if luck else None,
        "robustness": {
            modality: finite(without)
            for modality, without in ({} if of_repeat else robustness(record, history)).items()
        },
        "model": models.get(record.trial_id),
        "run_id": record.run_id,
        "node": record.machine if record.node or record.hostname else _stay(record),
        "message": record.message or None,
    }


def _candidate(number: int, candidate: Infeasible) -> dict[str, Any]:
    """Return a candidate that broke a constraint before training."""
    empty: dict[str, Any] = {name: {} for name in ("test", "spread", "standard_error", "robustness")}
    nothing = ("repeat_of", "epochs", "seeds", "p_front", "p_better", "model", "run_id", "node", "message")
    return {
        "id": f"candidate-{number:03d}",
        "kind": "trial",
        "method": candidate.config["method"],
        "status": "infeasible",
        "front": False,
        "config": settings_of(candidate.config),
        "values": finite(known_values(candidate.memory)),
        **empty,
        **dict.fromkeys(nothing),
    }


def _status(record: TrialRecord, state: State) -> str:
    """Return a trial's status; what was running when its search was killed has been stopped."""
    if record.status is Status.RETRIED:
        return str(Status.OUT_OF_MEMORY)
    if state is not State.RUNNING and record.status in (Status.RUNNING, Status.PAUSED):
        return str(Status.STOPPED)
    return str(record.status)


def _stay(record: TrialRecord) -> str | None:
    if not record.stays:
        return None
    stay = record.stays[-1]
    return stay.hostname or stay.node_ip


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that are numbers; JSON has neither infinite ones nor NaN."""
    return {name: float(v) for name, v in values.items() if v is not None and math.isfinite(v)}


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without its method, each setting as a number, a text, a switch or None.

    Of a setting that has values by layer and modality, the mean over the layers of each modality stands as
    ``NAME of MODALITY, mean``, beside all values as a text.
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name == "method":
            continue
        if isinstance(value, Mapping):
            found[name] = " ".join(f"{m} {' '.join(map(str, _listed(of)))}" for m, of in value.items())
            for modality, of in value.items():
                numbers = [each for each in _listed(of) if _is_number(each)]
                if numbers:
                    found[f"{name} of {modality}, mean"] = fmean(numbers)
        elif isinstance(value, list | tuple):
            found[name] = " ".join(map(str, value))
        else:
            found[name] = value
    return found


def parameter_rows(trials: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs between trials, ``method`` too if there are several.

    Args:
        trials: Rows of trials.
        facts: The search's resolved settings, which hold the ranges of its space.
    """
    rows = [row for row in trials if row["kind"] != "probe"]
    found = [{"name": "method", "kind": "choice", "log": False}] if _several(rows, "method") else []
    names = dict.fromkeys(name for row in rows for name in row["config"])
    for name in names:
        values = [row["config"][name] for row in rows if name in row["config"]]
        different = Counter(map(json.dumps, values))
        if len(different) < 2:
            continue
        numbers = [value for value in values if _is_number(value)]
        if len(numbers) == len(values):
            found.append({"name": name, "kind": "number", "log": _is_log(name, numbers, facts)})
        elif len(different) <= _CHOICES:
            found.append({"name": name, "kind": "choice", "log": False})
    return found


def _several(rows: list[Mapping[str, Any]], name: str) -> bool:
    return len({row[name] for row in rows}) > 1


def _is_log(name: str, numbers: list[float], facts: Mapping[str, Any]) -> bool:
    ranges = [json.loads(text) for key, text in facts.items() if _names(key, name)]
    scales = [bounds["log"] for bounds in ranges if "log" in bounds]
    positive = min(numbers) > 0
    return positive and (any(scales) if scales else max(numbers) > _WIDE * min(numbers))


def _names(fact: str, parameter: str) -> bool:
    """Return whether a fact is the range of a parameter, in front of whose name may be a method's."""
    return fact == f"parameter {parameter}" or (
        fact.startswith("parameter ") and fact.endswith(f".{parameter}")
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def progress_rows(history: History, started: float) -> list[dict[str, float]]:
    """Return the search's progress after each end of a trial.

    Args:
        history: The trials.
        started: When the search was started, in seconds since 1970.
    """
    ends = sorted(epoch["time"] for r in history.trials.values() for epoch in r.epochs if "time" in epoch)
    found, spent = [], 0
    for point in history.points:
        while spent < len(ends) and ends[spent] <= point.time:
            spent += 1
        found.append(
            {
                "seconds": round(point.time - started, 3),
                "trials": point.trials,
                "epochs": spent,
                "hypervolume": point.values["hypervolume"],
            }
        )
    return found
