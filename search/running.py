"""Runs a search in its open store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from rich.console import Console

from search.ending import export, finish, score_test
from search.engine.prior import Prior, read_prior
from search.engine.searcher import ParetoSearcher
from search.execution.cluster import cluster, require_gpus, require_room
from search.execution.modeling import ModelWriter
from search.execution.probing import probe
from search.execution.readiness.examining import Examiner
from search.execution.readiness.facts import facts_here
from search.execution.readiness.guard import guarded
from search.execution.readiness.ready import require_ready
from search.execution.readiness.watch import watching
from search.execution.room import idle_gpus
from search.execution.session import is_own_ray
from search.execution.tuning import run_trials
from search.nodes import find_nodes
from search.oneshot import OneShot
from search.placement import Placement, place
from search.precision import Decision, TrialDevices
from search.records.files import write_whole
from search.records.opening import search_id as search_id_at
from search.records.place import Place
from search.records.shelf import ENDED
from search.records.store import SearchStore
from search.reporting.clock import Clock
from search.reporting.node_table import NodeTable
from search.reporting.progress import say
from search.reporting.tracker import Tracker
from search.result import SearchResult
from search.setup import Found, Setup, set_up, with_data
from search.target import completed, in_words
from trainables.errors import UserError


def run(
    found: Found, store: SearchStore, prior_store: SearchStore | None, clock: Clock, console: Console
) -> SearchResult:
    """Run a search in an open store.

    The folder and MLflow are changed only after the search's history has been restored.

    Args:
        found: The settings, with what was found by them.
        store: The store of the search.
        prior_store: The store of the search to start from, read into memory; None if there is none.
        clock: Times the search's parts.
        console: Where progress is shown.

    Returns:
        The result, of a search that has finished or was interrupted.

    Raises:
        UserError: If the settings, the data or the encoders cannot be used, or have changed.
    """
    place = found.config.place
    with clock.entering("start of Ray", cluster(found.config.backend.address)):
        found, decision = decide(found, console)
        with clock.part("data"):
            found = with_data(found, console)
        setup = set_up(found, console)
        config = setup.config
        _require_unchanged(place, store.fact("facts"), setup.facts)
        prior = _prior(setup, prior_store, console)
        setup.history.restore(store)
        prepared = setup.backend.prepare(setup.space, console)
        placement = place_trials(setup, decision)
        for line in prepared.understood:
            say(console, line)
        task = f"task: {setup.backend.task.in_words()} ({setup.backend.task_decided})"
        for line in (task, *decision.lines, in_words(setup.setting)):
            say(console, line)
        examiner = None
        if not is_own_ray():
            with clock.part("other nodes"):
                examiner = require_ready(place, prepared.provisions, placement, decision.nodes, console)
        nodes = _node_table(store, placement, examiner, decision)
        with store.transaction():
            by_trials = config.search.strategy == "trials"
            listed = setup.space.first_points(setup.context) if config.configuration.method else None
            searcher = ParetoSearcher(setup, placement, store, prior, listed) if by_trials else None
            copied_from = _settle(setup, store, console)
        write_whole(place.folder / "config.json", config.to_json())
        tracking = _tracker(setup, store, copied_from, nodes, console)
        with (
            clock.entering("start of MLflow", tracking) as tracker,
            watching(examiner, placement, partial(say, console)),
        ):
            store.put_facts({"begun": True, ENDED: None})
            with clock.part("probe"):
                probe(setup, prepared, placement, store, console)
            models = ModelWriter(setup, prepared.modeler, console) if prepared.modeler else None
            oneshot = None
            if searcher is None:
                tracker.begin()
                oneshot = OneShot(setup, prepared, placement, store, tracker, console)
                with clock.part("supernet"):
                    trained = oneshot.run()
                if not trained:
                    return finish(setup, store, tracker, clock, console, models, oneshot, interrupted=True)
                searcher = ParetoSearcher(setup, placement, store, prior, oneshot.finals())
            tracker.begin()
            inherited = oneshot.weights if oneshot and not config.oneshot.from_scratch else None
            trainable = prepared.trainable(inherited)
            if examiner is not None:
                trainable = guarded(trainable, examiner)
            finished = run_trials(setup, trainable, placement, searcher, tracker, clock, console)
            if finished and prepared.scorer is not None:
                with clock.part("test scoring"):
                    finished = score_test(prepared.scorer, searcher, console)
            encoders = {}
            if finished and config.configuration.method is not None:
                with clock.part("end"):
                    encoders = export(prepared.exporter, searcher)
            return finish(
                setup,
                store,
                tracker,
                clock,
                console,
                models,
                oneshot,
                searcher,
                interrupted=not finished,
                encoders=encoders,
            )


def decide(found: Found, console: Console) -> tuple[Found, Decision]:
    """Decide the precision and the target by the devices of the cluster that was joined.

    If its GPUs stay idle, this is said.

    Returns:
        The settings with both, and the decision.

    Raises:
        UserError: If GPUs are asked for and there are none.
    """
    config, recorded = found.config, found.backend.precision
    asked, wanted = config.placement, config.step.precision
    nodes = find_nodes(asked.gpu_memory)
    require_gpus(config, nodes)
    if (line := idle_gpus(config, nodes)) is not None:
        say(console, line)
    if recorded is not None or wanted == "fp32":  # every device computes in it, or none has to
        decision = Decision(recorded or wanted, nodes)
    else:
        stated = config.target.compute_capability
        devices = TrialDevices.of(nodes, asked.gpus_per_trial, asked.gpu_memory, stated)
        decision = devices.decide(wanted)
    target = completed(config.target, decision.nodes)
    return found.in_precision(decision.precision).on_target(target), decision


def _settle(setup: Setup, store: SearchStore, console: Console) -> str | None:
    """Write down the settings and the place of a search; return the id of the search that it is a copy of.

    A search is where its folder is. If the place where the store was last written still holds a search of the
    same id, this folder is a copy and becomes a search of its own. Otherwise the folder was moved.
    """
    place, search_id = setup.config.place, store.fact("search_id")
    before = Place.of(store.fact("place"))
    copied_from: str | None = store.fact("copied_from")
    if before != place and not _same(before, place):
        if search_id_at(before) == search_id:
            copied_from = search_id
            store.put_facts({"search_id": uuid.uuid4().hex, "copied_from": copied_from})
            for record in setup.history.trials.values():
                record.run_id = None
                store.put_trial(record.trial_id, record.to_dict())
            say(console, f"{place} is a copy of {before}, and becomes a search of its own")
        else:
            say(console, f"search '{before.name}' was moved from {before} to {place}")
    store.put_facts(
        {
            "config": setup.config.to_json(),
            "place": place.address,
            "facts": setup.facts,
            "reference": setup.history.reference,
            "task": setup.backend.task.to_dict(),
        }
    )
    return copied_from


def _same(one: Place, other: Place) -> bool:
    """Return whether two paths lead to one folder."""
    if one.remote or other.remote:
        return False
    return os.path.exists(one.folder) and os.path.samefile(one.folder, other.folder)


def place_trials(setup: Setup, decision: Decision) -> Placement:
    """Return the placement of trials on the cluster that was joined.

    Raises:
        UserError: If no trial could run on the cluster.
    """
    config = setup.config
    placement = place(
        decision.nodes,
        config.most_at_once,
        max_concurrent=config.placement.max_concurrent,
        gpus_per_trial=config.placement.gpus_per_trial,
        gpu_memory=config.placement.gpu_memory,
        packing=config.placement.packing,
        excluded=decision.excluded,
    )
    require_room(setup, placement)
    return placement


def _node_table(
    store: SearchStore, placement: Placement, examiner: Examiner | None, decision: Decision
) -> NodeTable:
    """Return the table of the nodes: those that are examined now or later, or this one alone."""
    facts = examiner.facts if examiner is not None else {"": facts_here(decision.nodes[0])}

    def find() -> list[dict[str, Any]]:
        # A thread adds those that join.
        return [of.row(kept_out=of.node_id in placement.kept_out) for of in list(facts.values())]

    return NodeTable(store, find)


@contextmanager
def _tracker(
    setup: Setup, store: SearchStore, copied_from: str | None, nodes: NodeTable, console: Console
) -> Iterator[Tracker]:
    """Yield the tracker; if an exception ends the search, say so in MLflow."""
    search_id = store.fact("search_id")
    warn = partial(say, console)
    material = setup.backend.material
    tracker = Tracker(
        setup.config, setup.history, setup.details, search_id, warn, copied_from, nodes.rows, material
    )
    try:
        yield tracker
    except BaseException as error:
        setup.history.close()
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", {}, None)
        raise


def _require_unchanged(place: Place, there: dict[str, Any] | None, here: dict[str, Any]) -> None:
    """Raise ``UserError`` if new trials would not be comparable with those that were trained.

    Args:
        place: The place of the search.
        there: The facts when the search began; None if it did not get so far.
        here: The facts now.
    """
    there = here if there is None else there
    differences = [
        f"{fact} was {there.get(fact, 'absent')} and is {here.get(fact, 'absent')} now"
        for fact in dict.fromkeys((*there, *here))
        if there.get(fact) != here.get(fact)
    ]
    if differences:
        raise UserError(
            f"--resume {place.name}: {'; '.join(differences)}; start a new search, with "
            f"--warm-start {place.argument} to use what this one has found"
        )


def _prior(setup: Setup, store: SearchStore | None, console: Console) -> Prior:
    """Return the results of another search, to start from; empty if there is none."""
    if store is None:
        return Prior()
    with closing(store):
        prior, summary = read_prior(setup, store)
    say(console, f"warm start from '{setup.config.search.warm_start}': {summary}")
    return prior
