"""The probes of a search: run before its first trial, where trials run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from rich.console import Console

from search.backends.base import Prepared, Probing
from search.execution.modeling import ModelWriter
from search.execution.room import Room
from search.execution.watched import run_watched
from search.goals.quantities import quantity_of
from search.placement import Placement
from search.records.history import PROBE, History, TrialRecord
from search.records.opening import kept_outputs
from search.records.status import Status
from search.records.store import SearchStore
from search.reporting.progress import say
from search.setup import Setup
from search.units import format_duration
from trainables.memory import MemoryReport
from trainables.model.description import configuration_of
from trainables.probe import Probe, Probes
from trainables.trial.outputs import compact


def probe(
    setup: Setup, prepared: Prepared, placement: Placement, store: SearchStore, console: Console
) -> None:
    """Run the probes of a search, unless it has them, and add them to its history and store.

    If they fail, a line says so, and the search goes on without them.

    Args:
        setup: The setup of the search, with its history.
        prepared: The backend.
        placement: The devices and their memory.
        store: Where the probes are kept.
        console: Where progress is shown.
    """
    history = setup.history
    if not setup.config.search.probe or history.probes:
        return
    probing = prepared.probing(placement.device)
    if probing is None:
        return
    started = time.monotonic()
    with console.status("probing the frozen features"):
        found = _run(setup, probing, placement, Room(partial(say, console), "the probe", may_run=True))
    if isinstance(found, str):
        say(console, f"there is no probe: {found}")
        return
    records = _records(found, probing.memory, time.time())
    outputs = kept_outputs(store, setup.config.place)
    for record, fitted in zip(records, (found.joint, *found.single.values()), strict=False):
        for split, of_rows in fitted.outputs.items():
            outputs.write(record.trial_id, split, compact(of_rows))
    history.take_probes(records)
    if prepared.modeler is not None:
        ModelWriter(setup, prepared.modeler, console).probes(found)
    store.put_facts(history.probe_facts())
    say(console, f"{_summary(history)} ({format_duration(time.monotonic() - started)})")


def _run(setup: Setup, probing: Probing, placement: Placement, room: Room) -> Probes | str:
    """Return the probes or, in one line, why there are none."""
    limits = setup.config.placement
    needed = placement.needed(max(probing.expected, setup.predictor.encoding_memory(placement.device)))
    if placement.limit is not None and needed > placement.limit:
        return "no device has the memory for it"
    share = placement.of(needed)
    ((_, found),) = run_watched(
        [(partial(probing.run, share.threads), share)],
        room,
        hang_timeout=limits.hang_timeout,
        max_failures=limits.max_failures,
    )
    return found


def _records(probes: Probes, memory: Mapping[tuple[str, ...], MemoryReport], now: float) -> list[TrialRecord]:
    """Return the probes as the history holds them, the best over all readings last."""

    def record(name: str, found: Probe) -> TrialRecord:
        return TrialRecord(
            name,
            configuration_of(name, found.strength, found.poolings),
            memory[tuple(found.poolings)],
            status=Status.FINISHED,
            kind=PROBE,
            epochs=[{**found.metrics["validation"], "epoch": 1.0, "time": now}],
            test=found.metrics.get("test", {}),
            robustness=found.robustness,
        )

    single = [record(f"{PROBE}:{modality}", found) for modality, found in probes.single.items()]
    return [record(PROBE, probes.joint), *single, record(PROBE, probes.best)]


def _summary(history: History) -> str:
    """Return a line about the probe: what it reaches, in what memory, and what keeps it off the front."""
    probe = history.probes[PROBE]
    values = [
        f"{objective.name} {quantity_of(objective).rounded(probe.values[objective.name])}"
        for objective in history.shown
        if objective.name in probe.values
    ]
    line = f"probe, a linear model on the frozen features: {', '.join(values)}"
    lacking = history.lacking(probe)
    return f"{line}; it has no {' and no '.join(lacking)}, so it is not on the front" if lacking else line
