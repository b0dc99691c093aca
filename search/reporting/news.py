"""The news of a search as immutable data, without threads and clients."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search.backends.base import Material
from search.config import SearchConfig
from search.config.command import shown
from search.goals.luck import Luck
from search.records.history import History, TrialRecord
from search.records.place import absolute
from search.records.status import Status
from search.records.stays import HOSTNAME, NODE_IP, in_words
from search.reporting.mlflow_note import Note
from search.reporting.origin import origin_tags, versions
from search.units import GIB

_LONGEST_MESSAGE = 4000  # characters
_LONGEST_VALUE = 500  # characters of a parameter, which servers of every version take
#: Settings that the place of a run in MLflow shows.
_SHOWN_ELSEWHERE = ("name", "experiment", "tracking_uri")


@dataclass(frozen=True)
class About:
    """A description of the search.

    Attributes:
        search_id: Unique id of the search; a resumed search keeps it.
        name: The search's name.
        tags: Tags of the search's run.
        params: Parameters of the search's run: the settings that differ from their defaults.
        settings: All settings, what they were resolved to, and the environment, as a JSON document.
        material: What the trials learn from; None if MLflow is not told.
        origin: Tags of all runs: the user, the command line and the code's commit.
        copied_from: Id of the search that this one is a copy of, or None.
    """

    search_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    settings: str
    material: Material | None = None
    origin: dict[str, str] = field(default_factory=dict)
    copied_from: str | None = None

    @classmethod
    def of(
        cls,
        config: SearchConfig,
        details: Mapping[str, Any],
        search_id: str,
        copied_from: str | None = None,
        material: Material | None = None,
    ) -> About:
        """Describe a search by its settings, its resolved details, and what its trials learn from."""
        return cls(
            search_id=search_id,
            name=config.run_name,
            tags={"kind": "search", "space": config.search.space, "dataset": config.data.dataset},
            params=_changed(config),
            settings=_document(config, details),
            material=material,
            origin=origin_tags(),
            copied_from=copied_from,
        )


@dataclass(frozen=True)
class Snapshot:
    """A trial at one moment.

    Attributes:
        trial_id: The trial's name.
        status: The trial's status.
        taken: Time of this snapshot, in seconds since 1970.
        started: Time of the trial's first snapshot, in seconds since 1970.
        changed: Time of the first snapshot with this status, in seconds since 1970.
        params: Parameters of the trial's run.
        tags: Tags of the trial's run.
        predicted: Metrics known from the start.
        known: Metrics that are equal for every epoch.
        epochs: As in ``TrialRecord``.
        test: As in ``TrialRecord``, by the metric's name, with ``robustness``.
        luck: As in ``TrialRecord``, by the metric's name.
    """

    trial_id: str
    status: Status
    taken: float
    started: float
    changed: float
    params: dict[str, Any]
    tags: dict[str, str]
    predicted: dict[str, float]
    known: dict[str, float]
    epochs: tuple[dict[str, float], ...]
    test: dict[str, float]
    luck: dict[str, float]

    @classmethod
    def of(
        cls, record: TrialRecord, now: float, earlier: Snapshot | None = None, retried_as: str | None = None
    ) -> Snapshot:
        """Return a snapshot of a trial.

        Args:
            record: The trial.
            now: The time, in seconds since 1970.
            earlier: A snapshot of the same trial that this one replaces, or None.
            retried_as: Name of the trial that retries this one because memory ran out, or None.
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
        last = {NODE_IP: record.node, HOSTNAME: record.hostname}  # of one that has reported no epoch
        where = record.stays[-1].place if record.stays else last
        tags |= {name: text for name, text in where.items() if text}
        if len(record.stays) > 1:
            tags["ran_on"] = in_words(record.stays, len(record.epochs))[:_LONGEST_MESSAGE]
        if record.message:
            tags["message"] = record.message[:_LONGEST_MESSAGE]
        others = {"retry_of": record.retry_of, "retried_as": retried_as, "repeat_of": record.repeat_of}
        tags |= {name: trial_id for name, trial_id in others.items() if trial_id}
        params = {**record.config, "trial_id": record.trial_id}
        if record.repeat_of:
            params["seed"] = record.seed
        measured = record.epochs[-1] if record.epochs else {}
        known = {name: value for name, value in record.values.items() if name not in measured}
        parts = {f"predicted.{name}": size / GIB for name, size in record.memory.sizes().items()}
        known |= {f"inherited_{name}": value for name, value in record.inherited.items()}
        errors = {"memory_error": record.memory_error, "reserved_error": record.reserved_error}
        measured_by = {name: error for name, error in errors.items() if error is not None}
        return cls(
            trial_id=record.trial_id,
            status=record.status,
            taken=now,
            started=earlier.started if earlier else now,
            changed=earlier.changed if earlier and earlier.status == record.status else now,
            params=params,
            tags=tags,
            predicted={**known, **parts},
            known={**known, **measured_by},
            epochs=tuple(record.epochs),
            test=_test(record) if record.test else {},
            luck=_luck(record.luck) if record.luck else {},
        )


@dataclass(frozen=True)
class Final:
    """The final news of a search.

    Attributes:
        status: How the search ended: ``FINISHED``, ``KILLED`` or ``FAILED``.
        when: Time of the end, in seconds since 1970.
        texts: Documents by name.
        tables: Names of the documents that are tables.
        picture: A picture file to attach, or None.
        verdict: What the front means, in a sentence, or None.
        note: The description of the search's run, or None.
    """

    status: str
    when: float
    texts: dict[str, str]
    tables: tuple[str, ...]
    picture: Path | None
    verdict: str | None = None
    note: Note | None = None

    @classmethod
    def of(
        cls,
        history: History,
        status: str,
        tables: Mapping[str, list[dict[str, Any]]],
        picture: Path | None,
        now: float,
        verdict: str | None = None,
        note: Note | None = None,
    ) -> Final:
        """Make the documents: the tables that have rows, and the candidates that were never started."""
        texts = {name: table_text(rows) for name, rows in tables.items() if rows}
        shown = tuple(texts)
        infeasible = [
            {**candidate.config, "memory": candidate.memory.memory / GIB}
            for candidate in history.infeasible.values()
        ]
        if infeasible:
            texts["infeasible.json"] = json.dumps({"infeasible": infeasible}, indent=2)
        return cls(status, now, texts, shown, picture, verdict, note)


def _test(record: TrialRecord) -> dict[str, float]:
    """Return a trial's metrics on the test split, and those without each modality."""
    metrics = {f"test.{name}": float(value) for name, value in record.test.items()}
    for modality, without in record.robustness.items():
        metrics |= {f"test.{name}.without_{modality}": float(value) for name, value in without.items()}
    return metrics


def _luck(luck: Luck) -> dict[str, float]:
    chances = {"p_front": luck.p_front, "p_better": luck.p_better}
    errors = {f"standard_error.{name}": error for name, error in luck.standard_errors.items()}
    return {name: chance for name, chance in chances.items() if chance is not None} | errors


def front_members(history: History) -> frozenset[str]:
    """Return the names of the trials on the front and of their repeats."""
    return frozenset(run.trial_id for first in history.front() for run in history.finished(first))


def table_text(rows: list[dict[str, Any]]) -> str:
    """Return rows in the format of MLflow's tables, with a column for each field, also of configurations."""
    flat = [{**{k: v for k, v in row.items() if k != "config"}, **row.get("config", {})} for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row))
    return json.dumps({"columns": columns, "data": [[row.get(column) for column in columns] for row in flat]})


def as_text(value: Any) -> str:
    """Return a parameter's value as a text, without Python's punctuation.

    >>> as_text(("memory", "accuracy")), as_text([1, 2]), as_text(()), as_text(0.001)
    ('memory, accuracy', '1, 2', 'none', '0.001')
    """
    if isinstance(value, list | tuple):
        plain = all(isinstance(each, str | int | float) and "," not in str(each) for each in value)
        text = ", ".join(map(str, value)) if plain else json.dumps(value)
        value = text or "none"
    elif isinstance(value, dict):
        value = json.dumps(value)
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _changed(config: SearchConfig) -> dict[str, str]:
    """Return the settings that differ from their defaults, as they are written on the command line."""
    search, options = config.search, SearchConfig.options()
    address = config.tracking.address
    default = SearchConfig(space=search.space, strategy=search.strategy, tracking_uri=address).to_dict()
    default |= {"space": None, "strategy": options["strategy"].default}
    default["storage_path"] = absolute(default["storage_path"])
    values = config.to_dict() | {"storage_path": config.place.storage}
    return {
        name: as_text(shown(options[name], value))
        for name, value in values.items()
        if value != default[name] and name not in _SHOWN_ELSEWHERE
    }


def _document(config: SearchConfig, details: Mapping[str, Any]) -> str:
    """Return all settings by their block, what they were resolved to, and the environment, as JSON."""
    options = SearchConfig.options()
    blocks = {name: getattr(config, name).to_dict() for name in SearchConfig.blocks()}
    resolved: dict[str, Any] = {}
    for name, value in details.items():
        *above, last = name.split(".")
        inner = resolved
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = value
    document = {
        "name": config.run_name,
        "created": datetime.fromtimestamp(config.created, UTC).isoformat(timespec="seconds"),
        "settings": {
            block: {name: shown(options[name], value) for name, value in values.items()}
            for block, values in blocks.items()
        },
        "resolved": resolved,
        "versions": versions(),
        "platform": platform.platform(),
    }
    return json.dumps(document, indent=1)
