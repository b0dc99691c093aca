"""What there is to say of a search, as data that does not change: no thread, no client."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from search.config import SearchConfig
from search.records.history import History, TrialRecord
from search.records.status import UNFINISHED, Status
from search.units import GIB

_PACKAGES = ("torch", "ray", "optuna", "transformers", "mlflow", "pyarrow")
_LONGEST_MESSAGE = 4000  # characters


@dataclass(frozen=True)
class About:
    """The search itself.

    Attributes:
        search_id: What tells it from all others, and stays when it is resumed.
        name: Its name.
        tags: Tags.
        params: Parameters: settings, what they stood for, environment.
        settings: The settings as a JSON document.
    """

    search_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    settings: str

    @classmethod
    def of(cls, config: SearchConfig, details: Mapping[str, Any], search_id: str) -> About:
        """Describe a search by its settings and by what these stood for."""
        environment = {f"version.{name}": version(name) for name in _PACKAGES}
        environment |= {"version.python": platform.python_version(), "platform": platform.platform()}
        return cls(
            search_id=search_id,
            name=config.run_name,
            tags={"kind": "search", "space": config.search.space, "dataset": config.data.dataset},
            params={**config.to_dict(), **details, **environment},
            settings=config.to_json(),
        )


@dataclass(frozen=True)
class Snapshot:
    """A trial as it was at a time.

    Attributes:
        trial_id: The trial's name.
        status: The trial's.
        started: When it was first heard of, in seconds since 1970.
        changed: When its status was first seen, in seconds since 1970.
        params: Parameters.
        tags: Tags.
        predicted: Metrics known from the start.
        known: Metrics that hold for each epoch.
        epochs: As in ``TrialRecord``.
        test: As in ``TrialRecord``, by the metric's name.
    """

    trial_id: str
    status: Status
    started: float
    changed: float
    params: dict[str, Any]
    tags: dict[str, str]
    predicted: dict[str, float]
    known: dict[str, float]
    epochs: tuple[dict[str, float], ...]
    test: dict[str, float]

    @classmethod
    def of(
        cls, record: TrialRecord, now: float, earlier: Snapshot | None = None, retried_as: str | None = None
    ) -> Snapshot:
        """Take a trial's.

        Args:
            record: The trial.
            now: The time, in seconds since 1970.
            earlier: A snapshot of the same trial that this one replaces, or None.
            retried_as: Name of the trial that took up its configuration because memory ran out, or None.
        """
        tags = {
            "kind": record.kind,
            "status": str(record.status),
            "failures": str(record.failures),
            "legs": str(record.legs),
        }
        if record.status is Status.OUT_OF_MEMORY:
            tags["infeasible"] = "true"
        if record.ending is not None:
            tags["stage"] = record.ending.stage
        if record.message:
            tags["message"] = record.message[:_LONGEST_MESSAGE]
        others = {"retry_of": record.retry_of, "retried_as": retried_as, "repeat_of": record.repeat_of}
        tags |= {name: trial_id for name, trial_id in others.items() if trial_id}
        params = {**record.config, "trial_id": record.trial_id}
        if record.repeat_of:
            params["seed"] = record.seed
        measured = record.epochs[-1] if record.epochs else {}
        known = {name: value for name, value in record.values.items() if name not in measured}
        parts = {f"predicted.{name}": size / GIB for name, size in record.memory.to_dict().items()}
        known |= {f"inherited_{name}": value for name, value in record.inherited.items()}
        error = {} if record.memory_error is None else {"memory_error": record.memory_error}
        return cls(
            trial_id=record.trial_id,
            status=record.status,
            started=earlier.started if earlier else now,
            changed=earlier.changed if earlier and earlier.status == record.status else now,
            params=params,
            tags=tags,
            predicted={**known, **parts},
            known={**known, **error},
            epochs=tuple(record.epochs),
            test={f"test.{name}": float(value) for name, value in record.test.items()},
        )


@dataclass(frozen=True)
class Point:
    """How the search stood: at a time, in seconds since 1970, after some finished trials."""

    time: float
    trials: int
    values: dict[str, float]

    @classmethod
    def of(cls, history: History, now: float) -> Point:
        """Count trials and measure the front."""
        counts = Counter(record.status for record in history.trials.values())
        values = {
            "hypervolume": history.hypervolume(),
            "front_size": len(history.front()),
            "trials": counts[Status.FINISHED],
            "infeasible": len(history.infeasible),
            **{str(status): counts[status] for status in UNFINISHED},
            **{f"best.{name}": value for name, value in history.best().items()},
        }
        return cls(now, counts[Status.FINISHED], {name: float(value) for name, value in values.items()})


@dataclass(frozen=True)
class Final:
    """What is said last.

    Attributes:
        status: How the search ended: ``FINISHED``, ``KILLED`` or ``FAILED``.
        when: Time, in seconds since 1970.
        texts: Documents by name.
        tables: Names of those that are tables.
        picture: A file, or None.
    """

    status: str
    when: float
    texts: dict[str, str]
    tables: tuple[str, ...]
    picture: Path | None

    @classmethod
    def of(
        cls,
        history: History,
        status: str,
        tables: Mapping[str, list[dict[str, Any]]],
        picture: Path | None,
        now: float,
    ) -> Final:
        """Make the documents: tables that have rows, and what was never started."""
        texts = {name: _table(rows) for name, rows in tables.items() if rows}
        shown = tuple(texts)
        infeasible = [
            {**candidate.config, "memory": candidate.memory.total / GIB}
            for candidate in history.infeasible.values()
        ]
        if infeasible:
            texts["infeasible.json"] = json.dumps({"infeasible": infeasible}, indent=2)
        return cls(status, now, texts, shown, picture)


def front_members(history: History) -> frozenset[str]:
    """Return the names of the front's trials, with their repeats."""
    return frozenset(run.trial_id for first in history.front() for run in history.finished(first))


def _table(rows: list[dict[str, Any]]) -> str:
    """Return rows in the format of MLflow's tables, each configuration's parameters as columns."""
    flat = [{**{k: v for k, v in row.items() if k != "config"}, **row["config"]} for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row))
    return json.dumps({"columns": columns, "data": [[row.get(column) for column in columns] for row in flat]})
