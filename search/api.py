"""Sets up a search and runs it: the Python API behind the command line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from search.backends.base import Scorer
from search.config import SearchConfig
from search.engine.prior import Prior, read_prior
from search.engine.searcher import ParetoSearcher
from search.execution.tuning import cluster, require_gpus, require_room, run_trials
from search.oneshot import OneShot
from search.placement import Placement, find_nodes, place
from search.process import prepared_process
from search.records.store import SearchStore
from search.reporting.front_picture import plot_front
from search.reporting.progress import error_console
from search.reporting.tracker import Tracker
from search.result import SearchResult
from search.setup import Setup, set_up
from trainables.cache import cache_dir
from trainables.errors import UserError
from trainables.trial.assignment import Assignment
from trainables.trial.outcome import last_line


@prepared_process()
def run_search(config: SearchConfig, *, console: Console | None = None) -> SearchResult:
    """Run a search to its end.

    Args:
        config: The settings.
        console: Where progress is shown; None is standard error.

    Returns:
        The result, with the front and the counts.

    Raises:
        UserError: If the settings, the data or the encoders cannot be used; no search is left behind then.
    """
    console = console or error_console()
    folder = _folder(config.storage.storage_path, config.run_name)
    if folder.exists():
        raise UserError(
            f"--name {config.run_name}: {folder.parent} holds a search of that name already; "
            f"resume it with --resume {config.run_name}"
        )
    setup = set_up(config, console)
    return _run(setup, None, _prior(setup, console), console)


@prepared_process()
def resume_search(
    name: str,
    *,
    storage_path: str = "runs",
    num_samples: str | int | None = None,
    console: Console | None = None,
    **changes: Any,
) -> SearchResult:
    """Resume a search that was interrupted, or extend one that has finished.

    Finished trials stay unchanged. Trials that were running resume from their last checkpoint, in the same
    MLflow runs.

    Args:
        name: The search's name.
        storage_path: Folder or remote address that holds the search.
        num_samples: Total number of trials, or ``+20`` for twenty more than before; None keeps the number.
        console: Where progress is shown; None is standard error.
        **changes: Settings to change, by name. docs/options.md lists the settings that may change.

    Returns:
        The result, with the front and the counts.

    Raises:
        UserError: If there is no such search, if another process runs it, if a setting may not change, or if
            the dataset or an encoder has changed.
    """
    console = console or error_console()
    folder = _folder(storage_path, name)
    store = SearchStore.open(folder)
    try:
        old = SearchConfig.from_json(store.fact("config"))
        config = old.resumed(num_samples=num_samples, storage_path=storage_path, **changes)
        setup = set_up(config, console)
        _require_unchanged(name, store.fact("facts"), setup.facts)
        setup.history.reference.update(store.fact("reference"))
        begun = store.fact("sampler") is not None
        return _run(setup, store, Prior() if begun else _prior(setup, console), console)
    finally:
        store.close()


def _run(setup: Setup, store: SearchStore | None, prior: Prior, console: Console) -> SearchResult:
    """Run a search that is set up; without a store, start a new one."""
    config, history = setup.config, setup.history
    prepared = setup.backend.prepare(setup.space, console)
    folder = _folder(config.storage.storage_path, config.run_name)
    search_id = store.fact("search_id") if store else uuid.uuid4().hex
    with cluster(config.backend.address):
        placement = _placement(setup)
        with _tracker(setup, search_id, console) as tracker, _kept(setup, store, search_id) as kept:
            oneshot = None
            if config.search.strategy == "oneshot":
                oneshot = OneShot(setup, prepared, placement, kept, folder, tracker, console)
                if not oneshot.run():
                    return _finish(setup, tracker, console, oneshot, interrupted=True)
            searcher = ParetoSearcher(setup, placement, kept, prior, oneshot.finals() if oneshot else None)
            for record in history.trials.values():
                tracker.update(record)
            inherited = oneshot.weights if oneshot and not config.oneshot.from_scratch else None
            finished = run_trials(setup, prepared.trainable(inherited), placement, searcher, tracker, console)
            if prepared.scorer is not None:
                _score_test(prepared.scorer, searcher, console)
            exhausted = searcher.candidates.exhausted
            return _finish(setup, tracker, console, oneshot, interrupted=not finished, exhausted=exhausted)


def _placement(setup: Setup) -> Placement:
    """Return the placement of trials on the cluster that was joined.

    Raises:
        UserError: If no trial could run on the cluster.
    """
    config = setup.config
    nodes = find_nodes(config.placement.gpu_memory)
    require_gpus(config, nodes)
    placement = place(
        nodes,
        config.search.num_samples,
        max_concurrent=config.placement.max_concurrent,
        gpus_per_trial=config.placement.gpus_per_trial,
        gpu_memory=config.placement.gpu_memory,
        packing=config.placement.packing,
        attention=config.step.attention,
    )
    require_room(setup, placement)
    return placement


@contextmanager
def _tracker(setup: Setup, search_id: str, console: Console) -> Iterator[Tracker]:
    """Yield the tracker; if an exception ends the search, mark it as failed in MLflow."""
    tracker = Tracker(setup.config, setup.history, setup.details, search_id, lambda text: _say(console, text))
    try:
        yield tracker
    except BaseException:
        setup.history.close()
        tracker.close("FAILED", {}, None)
        raise


@contextmanager
def _kept(setup: Setup, store: SearchStore | None, search_id: str) -> Iterator[SearchStore]:
    """Yield the store, with the current settings; for a new search, create it, and close it at the end."""
    config = setup.config
    folder = _folder(config.storage.storage_path, config.run_name)
    with ExitStack() as stack:
        if store is None:
            facts = {"facts": setup.facts, "reference": setup.history.reference}
            store = SearchStore.create(folder, {"search_id": search_id, "config": config.to_json(), **facts})
            stack.callback(store.close)
        store.put_facts({"config": config.to_json()})
        (folder / "config.json").write_text(config.to_json())
        yield store


def _folder(storage_path: str, name: str) -> Path:
    """Return the search's folder on this machine, in the cache if the trials are stored remotely."""
    if "://" in storage_path:
        return cache_dir() / "searches" / name
    return Path(storage_path).resolve() / name


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _require_unchanged(name: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise ``UserError`` if new trials would not be comparable with those that were trained."""
    differences = [
        f"{fact} was {there.get(fact, 'absent')} and is {here.get(fact, 'absent')} now"
        for fact in dict.fromkeys((*there, *here))
        if there.get(fact) != here.get(fact)
    ]
    if differences:
        raise UserError(
            f"--resume {name}: {'; '.join(differences)}; start a new search, with --warm-start {name} to use "
            "what this one has found"
        )


def _prior(setup: Setup, console: Console) -> Prior:
    """Return the results of the search that ``warm_start`` names; empty if it names none."""
    config = setup.config
    if config.search.warm_start is None:
        return Prior()
    prior, summary = read_prior(setup, _folder(config.storage.storage_path, config.search.warm_start))
    _say(console, f"warm start from '{config.search.warm_start}': {summary}")
    return prior


def _score_test(scorer: Scorer, searcher: ParetoSearcher, console: Console) -> None:
    """Score the front, and the best trial of each method, on the test split, which the search never uses."""
    history = searcher.history
    chosen = {record.trial_id: record for record in (*history.front(), *history.best_of_methods())}
    runs = [run for record in chosen.values() for run in history.finished(record)]
    scored = [run for run in runs if run.checkpoint and not run.test]
    score = ray.remote(_scored)
    with console.status(f"scoring the {len(scored)} best trials on the test split"):
        assigned = [searcher.assignment(record) for record in scored]
        futures = [score.options(**share.options()).remote(scorer, of_one) for of_one, share in assigned]
        for record, future in zip(scored, futures, strict=True):
            try:
                record.test = ray.get(future)
                searcher.recorder.keep(record)
            except ray.exceptions.RayError as error:
                what = f"{record.trial_id} has no test score: {last_line(error)}"
                console.print(what, markup=False, soft_wrap=True)


def _scored(scorer: Scorer, assignment: Assignment) -> dict[str, float]:
    """Score a trial in its own process."""
    return scorer(assignment)


def _finish(
    setup: Setup,
    tracker: Tracker,
    console: Console,
    oneshot: OneShot | None,
    *,
    interrupted: bool,
    exhausted: bool = False,
) -> SearchResult:
    """Write the search's result to its folder and to MLflow, and return it."""
    config, history = setup.config, setup.history
    folder = _folder(config.storage.storage_path, config.run_name)
    tracker.wait()  # the result holds the ids of the runs
    result = SearchResult.of(setup, folder, oneshot, interrupted=interrupted, exhausted=exhausted)
    picture = folder / "front.png" if history.front() else None
    if picture:
        plot_front(history, picture, f"{config.run_name} on {config.data.dataset}")
    tables = {"front.json": result.front, "methods.json": result.methods, "memory.json": result.memory}
    if oneshot is not None:
        tables["subnets.json"] = oneshot.rows()
    if not tracker.close("KILLED" if interrupted else "FINISHED", tables, picture):
        _say(console, f"not all is in MLflow yet; --resume {config.run_name} writes the rest")
    result = replace(result, parent_run_id=tracker.parent_id)
    result.write()
    return result
