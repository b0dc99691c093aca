"""Wires a search together and runs it: the Python API behind the command line."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from search.backends.base import Scorer
from search.config import SearchConfig
from search.engine.prior import Prior, comparable, expressible, restated
from search.engine.searcher import ParetoSearcher
from search.execution.tuning import cluster, require_gpus, require_room, run_trials
from search.oneshot import OneShot
from search.oneshot.agreement import RankAgreement
from search.placement import find_nodes, place
from search.process import prepared_process
from search.records.history import History, TrialRecord
from search.records.status import UNFINISHED, Status
from search.records.store import SearchStore
from search.reporting.progress import error_console
from search.reporting.report import front_rows, memory_rows, method_rows, plot_front
from search.reporting.tracker import Tracker
from search.setup import Setup, set_up
from trainables.cache import cache_dir
from trainables.errors import UserError
from trainables.trial.assignment import Assignment
from trainables.trial.outcome import last_line


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        name: The search's name.
        space: The space's name.
        parent_run_id: MLflow's id of the search; None if the server has not answered yet.
        trials: Trials that ran all epochs.
        infeasible: Candidates above the budget, never started.
        out_of_memory: Trials that ran out of memory, alone or within their share of a device.
        diverged: Trials whose loss or metrics became infinite or not a number.
        failed: Trials that ended in an error, or whose worker died, once more than ``max_failures``.
        hypervolume: Share (0 to 1) of the objectives' box that the front dominates.
        front: The front, cheapest first; one document a member.
        methods: The best trial of each method, best first; documents as the front's.
        interrupted: Whether Ctrl-C ended the search.
        exhausted: Whether the space held no further feasible configuration.
        errors: What happened to each trial that failed.
        depths: Layers of each encoder.
        folder: Where results lie.
        memory: Predicted and measured memory of each trial, see ``memory_rows``.
        tracking_uri: MLflow's address.
        strategy: How the space was searched.
        evaluated: With ``oneshot``: subnets evaluated with inherited weights.
        agreement: With ``oneshot``: the random sample's inherited and own results.
    """

    name: str
    space: str
    parent_run_id: str | None
    trials: int
    infeasible: int
    out_of_memory: int
    diverged: int
    failed: int
    hypervolume: float
    front: list[dict[str, Any]]
    methods: list[dict[str, Any]]
    interrupted: bool
    exhausted: bool
    errors: list[str]
    depths: dict[str, int]
    folder: str
    memory: list[dict[str, Any]]
    tracking_uri: str
    strategy: str = "trials"
    evaluated: int = 0
    agreement: RankAgreement | None = None

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau of inherited against own results; None if the sample's do not tell it."""
        return self.agreement.tau if self.agreement else None

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON document."""
        names = ["name", "space", "parent_run_id", "trials", "infeasible", *map(str, UNFINISHED)]
        names += ["hypervolume", "front", "methods", "memory"]
        if self.strategy == "oneshot":
            names += ["evaluated", "kendall_tau"]
        return {name: getattr(self, name) for name in names}


@prepared_process()
def run_search(config: SearchConfig, *, console: Console | None = None) -> SearchResult:
    """Run a search to its end.

    Args:
        config: The settings.
        console: Where progress is shown; None is standard error.

    Returns:
        The front and the counts.

    Raises:
        UserError: If the settings, the data or the encoders cannot be used; nothing is left behind.
    """
    console = console or error_console()
    folder = _folder(config.storage_path, config.run_name)
    if folder.exists():
        raise UserError(
            f"--name {config.run_name}: {folder.parent} holds a search of that name already; "
            f"go on with it by --resume {config.run_name}"
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
    """Go on with a search that was interrupted, or extend one that came to its end.

    Finished trials stay as they are; those that ran go on from their last checkpoint, under the same MLflow
    runs.

    Args:
        name: The search's name.
        storage_path: Where it lies.
        num_samples: Trials to run in all, or ``+20`` for twenty more than before; None as before.
        console: Where progress is shown; None is standard error.
        **changes: Settings to change, of those in ``search.config.CHANGEABLE``; others are refused if they
            differ.

    Raises:
        UserError: If there is no such search, somebody else is running it, or what it runs on has changed.
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
    """Run a search that is set up; without a store it is a new one."""
    config = setup.config
    prepared = setup.backend.prepare(setup.space, console)
    with cluster(config):
        nodes = find_nodes(config.gpu_memory)
        require_gpus(config, nodes)
        placement = place(
            nodes,
            config.num_samples,
            max_concurrent=config.max_concurrent,
            gpus_per_trial=config.gpus_per_trial,
            gpu_memory=config.gpu_memory,
            packing=config.packing,
            attention=config.attention,
        )
        require_room(setup, placement)
        folder = _folder(config.storage_path, config.run_name)
        search_id = store.fact("search_id") if store else uuid.uuid4().hex
        tracker = Tracker(config, setup.history, setup.details, search_id, lambda text: _say(console, text))
        new = store is None
        if store is None:
            facts = {"facts": setup.facts, "reference": setup.history.reference}
            store = SearchStore.create(folder, {"search_id": search_id, "config": config.to_json(), **facts})
        try:
            store.put_facts({"config": config.to_json()})
            (folder / "config.json").write_text(config.to_json())
            oneshot, listed = None, None
            if config.strategy == "oneshot":
                oneshot = OneShot(setup, prepared, placement, store, folder, tracker, console)
                if not oneshot.run():
                    return _finish(setup, None, oneshot, tracker, folder, console, interrupted=True)
                listed = oneshot.finals()
            searcher = ParetoSearcher(setup, placement, store, prior, listed)
            for record in setup.history.trials.values():
                tracker.update(record)
            inherited = oneshot.weights if oneshot and not config.from_scratch else None
            finished = run_trials(setup, prepared.trainable(inherited), placement, searcher, tracker, console)
            if prepared.scorer is not None:
                _score_test(setup, prepared.scorer, searcher, console)
            return _finish(setup, searcher, oneshot, tracker, folder, console, interrupted=not finished)
        except BaseException:
            setup.history.close()
            tracker.close("FAILED", {}, None)
            raise
        finally:
            if new:
                store.close()


def _folder(storage_path: str, name: str) -> Path:
    """The search's folder on this machine; beside the trials unless those are stored remotely."""
    if "://" in storage_path:
        return cache_dir() / "searches" / name
    return Path(storage_path).resolve() / name


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _require_unchanged(name: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse to go on where trials would not be comparable with those that were trained."""
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
    """Return what another search found, as far as it can be expressed and compared here."""
    config = setup.config
    if config.warm_start is None:
        return Prior()
    store = SearchStore.read(_folder(config.storage_path, config.warm_start))
    old = SearchConfig.from_json(store.fact("config"))
    differences = comparable(old, store.fact("facts"), config, setup.details)
    if "step_time" in config.objectives:
        differences.append("step times are other ones on another day")
    history = History(setup.history.objectives, setup.history.reference)
    points = {}
    for trial_id, document, epochs in store.trials():
        record = TrialRecord.from_dict(trial_id, document, epochs)
        member = expressible(setup.space, setup.context, restated(record.config, old, config))
        finished = record.status is Status.FINISHED and not record.repeat_of
        if not finished or member is None or history.find(member.config):
            continue
        memory = setup.predictor.predict_configuration(member.config)
        history.add(replace(record, config=member.config, memory=memory))
        points[trial_id] = member.values
    results = [] if differences else [(point, history.trials[t].values) for t, point in points.items()]
    used = "all inform the sampler" if results else f"not comparable ({', '.join(differences)})"
    front = [record.trial_id for record in history.front()]
    _say(
        console,
        f"warm start from '{config.warm_start}': {len(points)} finished trials lie in space "
        f"'{config.space}', {used}; its front of {len(front)} is tried first",
    )
    return Prior([points[trial_id] for trial_id in front], results)


def _score_test(setup: Setup, scorer: Scorer, searcher: ParetoSearcher, console: Console) -> None:
    """Score the front, and the best of each method, on the test split, which the search itself never sees."""
    history = setup.history
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
    """Score a trial, in a process of its own."""
    return scorer(assignment)


def _finish(
    setup: Setup,
    searcher: ParetoSearcher | None,
    oneshot: OneShot | None,
    tracker: Tracker,
    local: Path,
    console: Console,
    *,
    interrupted: bool,
) -> SearchResult:
    config, history = setup.config, setup.history
    tracker.wait()  # for the runs' ids
    rows, methods, measured = front_rows(history), method_rows(history), memory_rows(history)
    picture = local / "front.png" if history.front() else None
    if picture:
        plot_front(history, picture, f"{config.run_name} on {config.dataset}", config.max_memory)
    tables = {"front.json": rows, "methods.json": methods, "memory.json": measured}
    if oneshot is not None:
        tables["subnets.json"] = oneshot.rows()
    if not tracker.close("KILLED" if interrupted else "FINISHED", tables, picture):
        _say(console, f"not all is in MLflow yet; --resume {config.run_name} writes the rest")
    result = SearchResult(
        name=config.run_name,
        space=config.space,
        parent_run_id=tracker.parent_id,
        trials=len(history.by_status(Status.FINISHED)),
        infeasible=len(history.infeasible),
        **{str(status): len(history.by_status(status)) for status in UNFINISHED},
        hypervolume=history.hypervolume(),
        front=rows,
        methods=methods,
        interrupted=interrupted,
        exhausted=oneshot.exhausted if oneshot else searcher is not None and searcher.candidates.exhausted,
        errors=[record.message for record in history.by_status(Status.FAILED)],
        depths=dict(setup.context.depths),
        folder=str(local),
        memory=measured,
        tracking_uri=config.tracking_uri,
        strategy=config.strategy,
        evaluated=oneshot.evaluated if oneshot else 0,
        agreement=oneshot.agreement() if oneshot else None,
    )
    (local / "result.json").write_text(json.dumps(result.to_dict(), indent=1))
    return result
