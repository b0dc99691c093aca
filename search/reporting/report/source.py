"""What the report of a search is made from: its records, and its data where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from search.config import SearchConfig
from search.goals.constraints import parse_constraints
from search.goals.luck import Luck
from search.goals.objectives import Objective, always_reported, get_objectives
from search.records.evidence import Evidence
from search.records.files import read_document
from search.records.history import History, Infeasible, canonical
from search.records.opening import kept_outputs, read_store
from search.records.outputs import KeptOutputs
from search.records.ownership import require_own
from search.records.place import FILE, Place
from search.records.remote import EXPIRY_SECONDS, RemoteFolder
from search.records.shelf import ENDED, State
from search.records.status import Status
from search.records.store import SearchStore
from search.reporting.report.data import ReportData
from search.reporting.verdict import verdict
from search.setup import Setup
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.tasks import Task, read_task


@dataclass(frozen=True)
class Source:
    """What the report of a search is made from.

    Attributes:
        place: Where the search is.
        state: What becomes of it.
        store: Its store, or a copy.
        config: Its settings.
        history: Its trials, with their luck as far as that is known.
        task: What is learnt.
        outputs: The outputs that it has kept.
        data: Its data.
        verdict: What the front means, or None.
        notes: What is missing in the report, and why.
    """

    place: Place
    state: State
    store: SearchStore
    config: SearchConfig
    history: History
    task: Task
    outputs: KeptOutputs
    data: ReportData
    verdict: str | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Resolved sizes, counts and fingerprints of the search, and the parameters of its space."""
        return self.store.fact("facts") or {}

    def outputs_of(self, trial_id: str, split: str) -> Tensor | None:
        """Return the kept outputs of a configuration's best run, shape (N, K), see ``History.best_run``.

        Args:
            trial_id: A trial of the configuration, or a probe.
            split: Name of the split.

        Returns:
            The outputs; None if there are none that fit the split's labels.
        """
        history = self.history
        run = history.best_run(history.trials.get(trial_id) or history.probes[trial_id])
        labels, read = self.data.kept_labels(split), self.outputs.read(run.trial_id, split)
        if labels is None or read is None or read.shape != (len(labels), self.task.kept_size):
            return None
        return torch.from_numpy(read).float()

    def tuned(self, trial_id: str) -> Task:
        """Return the task as it was tuned to these outputs on the validation split."""
        if not self.task.tunes:
            return self.task
        labels, outputs = self.data.kept_labels("validation"), self.outputs_of(trial_id, "validation")
        return self.task if labels is None or outputs is None else self.task.tuned(outputs, labels)

    @classmethod
    def of(cls, setup: Setup, store: SearchStore, verdict: str | None, *, interrupted: bool) -> Source:
        """Return the source of a search that this process has run, whose history has its luck.

        Args:
            setup: The setup of the search.
            store: Its store.
            verdict: What its front means, or None.
            interrupted: Whether it was cut off.
        """
        place, task = setup.config.place, setup.backend.task
        state = State.INTERRUPTED if interrupted else State.FINISHED
        outputs, data = kept_outputs(store, place), ReportData.of_backend(setup.backend, task)
        return cls(place, state, store, setup.config, setup.history, task, outputs, data, verdict)


@contextmanager
def source_at(place: Place) -> Iterator[Source]:
    """Yield the source of a search that is recorded at a place. Nothing is written there.

    The search may be anybody's, and a process may be running it. Plugins are loaded only if the records are
    the user's own.

    Raises:
        UserError: If there is no search, if it cannot be read, or if it has not begun.
    """
    with closing(read_store(place, running=True)) as store:
        described = store.fact("task")
        if described is None or store.fact("begun") is None:
            raise UserError(
                f"{place}: has no trials yet, or was run by an earlier version; go on with it by "
                f"`{place.resume_command}`"
            )
        notes: list[str] = []
        config = SearchConfig.from_json(store.fact("config"), store.path)
        config = config.replace(name=place.name, storage_path=place.storage)
        _load_plugins(place, config, notes)
        with store.restoring():
            task = read_task(described)
        history = _history(store, config, task)
        outputs = kept_outputs(store, place)
        data = ReportData.of_settings(config, task, store.fact("facts") or {})
        evidence = Evidence(history, outputs, task, data.labels)
        result = _latest_result(place, history)
        if data.labels("validation") is None:
            _take_luck(history, result)
            sentence = result.get("verdict")
        else:
            evidence.note()
            sentence = verdict(evidence) or result.get("verdict")
        yield Source(
            place, state_of(place, store), store, config, history, task, outputs, data, sentence, notes
        )


def state_of(place: Place, store: SearchStore) -> State:
    """Return what becomes of a search.

    Args:
        place: Where it is.
        store: A copy of its store.
    """
    if (place.folder / FILE).is_file() and SearchStore.driver(place.folder) is not None:
        return State.RUNNING
    ended = store.fact(ENDED)
    if ended is not None:
        return State(ended)
    if place.remote:
        now = datetime.now(UTC)
        ages = [(now - renewed).total_seconds() for renewed in RemoteFolder(place).claims().values()]
        if any(age < EXPIRY_SECONDS for age in ages):
            return State.RUNNING
    return State.INTERRUPTED


def _load_plugins(place: Place, config: SearchConfig, notes: list[str]) -> None:
    """Run the plugins of a search if the search is the user's own."""
    if not config.extensions.plugins:
        return
    try:
        if (place.folder / FILE).exists():
            require_own(place.folder / FILE)
        config.load()
    except UserError as error:
        notes.append(f"its plugins were not loaded: {error}")


def _history(store: SearchStore, config: SearchConfig, task: Task) -> History:
    """Return the trials in a store, and the candidates that were never started."""
    names = config.search.objectives
    reported = always_reported(task)
    if config.configuration.method is not None:
        reported = (*reported, *map(Objective.of, task.metrics))
    objectives = get_objectives([o.name for o in always_reported(task)] if names is None else names, task)
    history = History(objectives, {}, parse_constraints(config.search.all_constraints), reported)
    history.restore(store)
    with store.restoring():
        for _, proposal in store.asked():
            kept = proposal.get("user_attrs", {}).get("infeasible")
            if kept:
                found = Infeasible(kept["config"], MemoryReport(**kept["memory"]))
                history.infeasible[canonical(found.config)] = found
    return history


def _latest_result(place: Place, history: History) -> dict[str, Any]:
    """Return the result of a search; empty if there is none, or if trials have finished since."""
    result = read_document(place.folder / "result.json")
    return result if result.get("trials") == len(history.by_status(Status.FINISHED)) else {}


def _take_luck(history: History, result: dict[str, Any]) -> None:
    """Give configurations the luck that a result has noted, where it cannot be computed again."""
    probe = result.get("probe") or {}
    rows = [*result.get("front", ()), *result.get("methods", ()), *probe.get("modalities", {}).values()]
    for row in (*rows, *([probe] if probe else [])):
        record = history.trials.get(row["trial_id"]) or history.probes.get(row["trial_id"])
        if record is not None:
            record.luck = Luck(row["p_front"], row["p_better"], row["standard_error"])
