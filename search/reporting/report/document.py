"""The report of searches as a document of JSON, from which the page is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from search.config.starting import command_line
from search.exporting.commands import commands_of
from search.goals.objectives import MEMORY, always_reported
from search.records.history import PROBE
from search.records.place import Place
from search.records.shelf import State
from search.reporting.report.classes import classes_of
from search.reporting.report.disagreements import disagreements_of
from search.reporting.report.environment import data_rows, environment_rows
from search.reporting.report.importance import importance_of
from search.reporting.report.source import Source, source_at
from search.reporting.report.trials import objective_rows, parameter_rows, progress_rows, trial_rows
from search.reporting.rows import front_rows, memory_rows
from trainables.errors import UserError

#: What a row of memory has of ``memory_rows``.
_MEMORY = ("memory", "expected", "measured", "expected_reserved", "reserved")


def document_of(places: Sequence[Place]) -> dict[str, Any]:
    """Return the report of searches, from their records alone; nothing of theirs is changed.

    The searches may have ended, or be running. See ``search_document`` for the entries of a search.

    Raises:
        UserError: If one of them cannot be read.
    """
    searches = []
    for place in places:
        with source_at(place) as source:
            searches.append(search_document(source))
    return report_document(searches)


def report_document(searches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report of searches whose documents are there."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"version": version("paretofuse"), "made": made, "searches": list(searches)}


def search_document(source: Source) -> dict[str, Any]:
    """Return what a report holds of a search.

    ``trials`` has all trials, probes, and candidates that were never started, with the values of the
    objectives and of all metrics. ``notes`` says what is missing and why. Numbers are in the objectives'
    units; shares are from 0 to 1.
    """
    history, config, place = source.history, source.config, source.place
    notes = list(source.notes)

    def noted(found: tuple[Any, list[str]]) -> Any:
        notes.extend(found[1])
        return found[0]

    members = [record.trial_id for record in history.front()]
    models = {row["trial_id"]: row["model"] for row in front_rows(history)}
    trials = trial_rows(source, models)
    parameters = parameter_rows(trials, source.facts)
    probe = PROBE if PROBE in history.probes else None
    best = [record.trial_id for record in history.best_of_methods()]
    compared = list(dict.fromkeys([*members, *([probe] if probe else [])]))
    answering = members if len(members) > 1 else list(dict.fromkeys([*compared, *best]))
    if source.data.labels("validation") is None:
        lacking = source.data.lacking or "the labels are not at hand"
        notes.append(f"luck: only what the search noted at its end; {lacking}")
    if config.search.strategy == "oneshot":
        notes.append("subnets with inherited weights: only those that were trained on their own are here")
    bounds = [c.bound for c in history.constraints if (c.name, c.direction) == (MEMORY.name, "<=")]
    return {
        "name": place.name,
        "space": config.configuration.method or config.search.space,
        "dataset": config.data.dataset,
        "task": source.task.in_words(),
        "state": str(source.state),
        "verdict": source.verdict,
        "command": command_line(config, [o.name for o in always_reported(source.task)]),
        "go_on": _go_on(source),
        "objectives": objective_rows(history),
        "budget": min(bounds, default=None),
        "parameters": parameters,
        "trials": trials,
        "members": members,
        "best_of_methods": best,
        "probe": probe,
        "commands": noted(_commands(source, models)),
        "progress": progress_rows(history, config.created),
        "importance": noted(importance_of(history, trials, parameters)),
        "memory": [
            {"id": row["trial_id"], **{name: row[name] for name in _MEMORY}} for row in memory_rows(history)
        ],
        "classes": noted(classes_of(source, compared)),
        "disagreements": noted(disagreements_of(source, answering)),
        "environment": environment_rows(source),
        "data": data_rows(source),
        "notes": list(dict.fromkeys(notes)),
    }


def _go_on(source: Source) -> str | None:
    resume = source.place.resume_command
    if source.state is State.FINISHED:
        return f"{resume} --num-samples +10"
    return resume if source.state is State.INTERRUPTED else None


def _commands(
    source: Source, models: Mapping[str, str | None]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the commands of each member of the front, and notes if some are missing."""
    records = {**source.history.trials, **source.history.probes}
    found = {}
    try:
        for trial_id, model in models.items():
            row = {"trial_id": trial_id, "config": records[trial_id].config, "model": model}
            found[trial_id] = commands_of(row, source.config)
    except UserError as error:
        return found, [f"commands of members: {error}"]
    without = [trial_id for trial_id, model in models.items() if model is None]
    return found, [f"commands to use a model: there is none of {', '.join(without)}"] if without else []
