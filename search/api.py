"""Sets up a search and runs it: the Python API behind the command line."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from search.backends.base import Exporter, Scorer
from search.config import SearchConfig
from search.engine.prior import Prior, read_prior, require_target
from search.engine.searcher import ParetoSearcher
from search.execution.cluster import cluster, reach, require_gpus, require_room
from search.execution.modeling import ModelWriter
from search.execution.probing import probe
from search.execution.readiness.examining import Examiner
from search.execution.readiness.facts import NodeFacts, facts_here
from search.execution.readiness.guard import guarded
from search.execution.readiness.ready import require_ready
from search.execution.readiness.watch import watching
from search.execution.room import idle_gpus
from search.execution.scoring import score_on_test
from search.execution.session import is_own_ray
from search.execution.tuning import run_trials
from search.nodes import NodeError, find_nodes
from search.oneshot import OneShot
from search.placement import Placement, place
from search.precision import Decision, TrialDevices
from search.process import prepared_process
from search.records import versions
from search.records.files import write_whole
from search.records.opening import created_store, holds_search, opened_store, read_store
from search.records.opening import search_id as search_id_at
from search.records.place import DEFAULT_STORAGE, MOVE, Place, absolute
from search.records.shelf import ENDED, LATEST, State, removing
from search.records.status import Status
from search.records.store import SearchStore, TakenError
from search.reporting.clock import Clock
from search.reporting.forgetting import forget
from search.reporting.front_picture import plot_front
from search.reporting.mlflow_note import Note
from search.reporting.node_table import NodeTable
from search.reporting.progress import error_console, say
from search.reporting.report.writing import report_at_end
from search.reporting.rows import probe_table
from search.reporting.tracker import Tracker, mlflow_imported
from search.reporting.verdict import verdict
from search.result import SearchResult
from search.setup import Found, Setup, look_up, set_up, with_data
from search.signals import undisturbed
from search.target import completed, in_words
from trainables.disk import writing
from trainables.errors import DiskFullError, UserError

_LONGEST_NAME = 200  # characters
_NAME = re.compile(rf"[^\W_][\w.-]{{0,{_LONGEST_NAME - 1}}}")


@prepared_process()
@mlflow_imported()
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
    clock = Clock()
    console = console or error_console()
    next(_named(config))  # a name that cannot be had is refused before anything else is done
    reach(config.backend.address, console)
    found = look_up(config)
    prior_store = _prior_store(config)
    with (
        _created(found, console) as (found, store),
        _resumable(found.config.place, store, console),
    ):
        return _run(found, store, prior_store, clock, console)


def train(
    method: str,
    settings: Mapping[str, Any] | Iterable[str] = (),
    *,
    console: Console | None = None,
    **options: Any,
) -> SearchResult:
    """Train one configuration, with one or several seeds: the search of a space of one.

    Example::

        train("pmf", {"L_f": 10, "prompt_length": 4}, seeds=3, epochs=5)

    Args:
        method: Name of the method.
        settings: Values by name, or texts ``NAME=VALUE``. A setting is an option of the method, a parameter
            of its space, or another field of a configuration, see ``spaces.single``. The others have the
            values of the recipe, or else of the space's first point.
        console: Where progress is shown; None is standard error.
        **options: Options by name, see docs/options.md.

    Returns:
        The result. Its front has one member, if a trial finished. If the method trains whole encoders, those
        of the seed that is best on the validation split are in ``encoders``.

    Raises:
        UserError: If the settings, the data or the encoders cannot be used.
    """
    return run_search(SearchConfig.of_training(method, settings, **options), console=console)


@prepared_process()
@mlflow_imported()
def resume_search(
    search: str,
    *,
    storage_path: str | None = None,
    num_samples: str | int | None = None,
    console: Console | None = None,
    **changes: Any,
) -> SearchResult:
    """Resume a search that was interrupted, or extend one that has finished.

    Finished trials stay unchanged. Trials that were running resume from their last checkpoint, in the same
    MLflow runs. All results are written to the folder that was read, even if it was moved or renamed. If the
    folder was copied and the original is still there, the copy becomes a search of its own.

    Args:
        search: The search's name, or the path or remote address of its folder.
        storage_path: Folder or remote address that holds the search, if ``search`` is a name; None is
            ``runs``.
        num_samples: Total number of trials, or ``+20`` for twenty more than before; None keeps the number.
        console: Where progress is shown; None is standard error.
        **changes: Settings to change, by name. docs/options.md lists the settings that may change.

    Returns:
        The result, with the front and the counts.

    Raises:
        UserError: If there is no such search, if it is another user's, if another process runs it, if a
            setting may not change, or if the dataset or an encoder has changed.
    """
    clock = Clock()
    console = console or error_console()
    place = Place.of(search, storage_path or DEFAULT_STORAGE)
    if storage_path is not None and place != Place(absolute(storage_path), search):
        raise UserError(f"--storage-path {storage_path}: --resume {search} is a path already; leave it out")
    with opened_store(place, partial(say, console)) as store, _resumable(place, store, console):
        old = SearchConfig.from_json(store.fact("config"), store.path).replace(
            name=place.name, storage_path=place.storage
        )
        changed = versions.changes(place.name, store.fact("versions"))
        if changed is not None:
            say(console, changed)
        config = old.resumed(num_samples=num_samples, **changes)
        reach(config.backend.address, console)
        prior_store = _prior_store(config) if store.fact("sampler") is None else None
        return _run(look_up(config), store, prior_store, clock, console)


@mlflow_imported()
def remove_search(search: str, *, storage_path: str | None = None, mlflow: bool = False) -> int:
    """Remove a search with its trials' weights.

    Args:
        search: The search's name, or the path or remote address of its folder.
        storage_path: Folder or remote address that holds the search, if ``search`` is a name; None is
            ``runs``.
        mlflow: Whether its runs are deleted in MLflow, too.

    Returns:
        Number of runs that were deleted in MLflow.

    Raises:
        UserError: If there is no such search, if it is another user's, if a process runs it, or if its runs
            in MLflow cannot be deleted. Then nothing else is removed.
    """
    with removing(Place.of(search, storage_path or DEFAULT_STORAGE)) as store:
        if not mlflow:
            return 0
        settings = SearchConfig.from_json(store.fact("config"), store.path).tracking
        return forget(settings.address, settings.experiment, store.fact("search_id"))


@prepared_process()
def check_nodes(config: SearchConfig, *, console: Console | None = None) -> list[NodeFacts]:
    """Ask the nodes of a cluster whether a search would run on them. Nothing is left behind but the cache.

    Args:
        config: The settings of the search.
        console: Where progress is shown, and what is wrong; None is standard error.

    Returns:
        What is known of this node, and of the others that can get trials.

    Raises:
        UserError: As ``run_search``; or if the search would not run on one of them as it does here.
    """
    console = console or error_console()
    reach(config.backend.address, console)
    found = look_up(next(_named(config)))
    with cluster(config.backend.address):
        decision = _decide_precision(found, console)
        target = completed(found.config.target, decision.nodes)
        setup = set_up(found.in_precision(decision.precision).on_target(target), console)
        provisions = setup.backend.prepare(setup.space, console).provisions
        placement = _placement(setup, decision)
        examiner = require_ready(setup.config.place, provisions, placement, decision.nodes, console)
        return list(examiner.facts.values())


def _run(
    found: Found, store: SearchStore, prior_store: SearchStore | None, clock: Clock, console: Console
) -> SearchResult:
    """Run a search in an open store.

    The folder and MLflow are changed only after the search's history has been restored.
    """
    place = found.config.place
    with clock.entering("start of Ray", cluster(found.config.backend.address)):
        decision = _decide_precision(found, console)
        target = completed(found.config.target, decision.nodes)
        with clock.part("data"):
            found = with_data(found.in_precision(decision.precision).on_target(target), console)
        setup = set_up(found, console)
        config = setup.config
        _require_unchanged(place, store.fact("facts"), setup.facts)
        prior = _prior(setup, prior_store, console)
        setup.history.restore(store)
        prepared = setup.backend.prepare(setup.space, console)
        placement = _placement(setup, decision)
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
                    return _finish(setup, store, tracker, clock, console, models, oneshot, interrupted=True)
                searcher = ParetoSearcher(setup, placement, store, prior, oneshot.finals())
            tracker.begin()
            inherited = oneshot.weights if oneshot and not config.oneshot.from_scratch else None
            trainable = prepared.trainable(inherited)
            if examiner is not None:
                trainable = guarded(trainable, examiner)
            finished = run_trials(setup, trainable, placement, searcher, tracker, clock, console)
            if finished and prepared.scorer is not None:
                with clock.part("test scoring"):
                    finished = _score_test(prepared.scorer, searcher, console)
            encoders = {}
            if finished and config.configuration.method is not None:
                with clock.part("end"):
                    encoders = _export(prepared.exporter, searcher)
            return _finish(
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


def _decide_precision(found: Found, console: Console) -> Decision:
    """Decide the precision by the devices of the cluster that was joined, and say if its GPUs stay idle.

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
        return Decision(recorded or wanted, nodes)
    stated = config.target.compute_capability
    devices = TrialDevices.of(nodes, asked.gpus_per_trial, asked.gpu_memory, stated)
    return devices.decide(wanted)


@contextmanager
def _resumable(place: Place, store: SearchStore, console: Console) -> Iterator[None]:
    """Say how to go on with a search that has begun and is cut off, or for which a disk or node is unfit."""
    try:
        with writing(place.folder, MOVE):
            yield
    except KeyboardInterrupt:
        if store.fact("begun") is not None:
            say(console, f"go on by `{place.resume_command}`")
        raise
    except (DiskFullError, NodeError) as error:
        if store.fact("begun") is None:
            raise
        mend = "" if isinstance(error, DiskFullError) else "; mend that"
        raise type(error)(f"{error}{mend}; then go on by `{place.resume_command}`") from error


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


def _placement(setup: Setup, decision: Decision) -> Placement:
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


@contextmanager
def _created(found: Found, console: Console) -> Iterator[tuple[Found, SearchStore]]:
    """Create the store of a new search; yield it, and what was found, with the name that the search has got.

    Raises:
        UserError: As ``_named`` and ``created_store``.
    """
    taken: TakenError | None = None
    with ExitStack() as stack:
        for config in _named(found.config):
            facts = {
                "search_id": uuid.uuid4().hex,
                "place": config.place.address,
                "config": config.to_json(),
                "versions": versions.installed(),
            }
            try:
                store = stack.enter_context(created_store(config.place, facts, partial(say, console)))
            except TakenError as error:  # by a search that was started at the same moment
                taken = error
            else:
                yield replace(found, config=config), store
                return
        assert taken is not None
        raise taken


def _named(config: SearchConfig) -> Iterator[SearchConfig]:
    """Yield the settings of a new search with the names that it may have, and that no other search has.

    That is the user's name, or else several that are made from the time.

    Raises:
        UserError: If the settings name a folder that exists, or that cannot be the name of one.
    """
    name, place = config.storage.name, config.place
    if name is None:
        made = [place.name, *(f"{place.name}-{number}" for number in range(2, 100))]
        free = (name for name in made if not os.path.lexists(replace(place, name=name).folder))
        yield from (config.replace(name=name, storage_path=place.storage) for name in free)
        return
    if name == LATEST:
        raise UserError(f"--name {name}: stands for the search that began last; choose another name")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name[:40]!r}: use up to {_LONGEST_NAME} letters, digits, '-', '_' and '.'; the first "
            "character must be a letter or a digit"
        )
    if holds_search(place):
        raise UserError(
            f"--name {name}: {place.storage} holds a search of that name already; go on with it by "
            f"`{place.resume_command}`, or choose another name"
        )
    if not place.remote and os.path.lexists(place.folder):
        raise UserError(
            f"--name {name}: {place.folder} exists already and holds no search; choose another name"
        )
    yield config.replace(storage_path=place.storage)


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


def _prior_store(config: SearchConfig) -> SearchStore | None:
    """Return the store of the search that ``warm_start`` names, read into memory; None if it names none.

    Raises:
        UserError: If there is no such search, or if its memory is for another target.
    """
    if config.search.warm_start is None:
        return None
    store = read_store(Place.of(config.search.warm_start, config.storage.storage_path))
    require_target(config, store)
    return store


def _prior(setup: Setup, store: SearchStore | None, console: Console) -> Prior:
    """Return the results of another search, to start from; empty if there is none."""
    if store is None:
        return Prior()
    with closing(store):
        prior, summary = read_prior(setup, store)
    say(console, f"warm start from '{setup.config.search.warm_start}': {summary}")
    return prior


def _score_test(scorer: Scorer, searcher: ParetoSearcher, console: Console) -> bool:
    """Score the trials of ``History.scored`` on the test split, which the search never uses.

    Trials that have a score are not scored again. Return False if Ctrl-C ended it.
    """
    history = searcher.history
    runs = [run for record in history.scored() for run in history.finished(record)]
    for run in runs:
        if run.scored and not run.test:  # its worker has scored it
            run.test = run.scored
            searcher.recorder.keep(run)
    scored = [run for run in runs if run.checkpoint and not run.test]
    if not scored:
        return True
    limits = searcher.config.placement
    failed: dict[str, list[str]] = {}
    try:
        with console.status(f"scoring the {len(scored)} best trials on the test split"):
            for index, found in score_on_test(
                scorer,
                [searcher.assignment(record) for record in scored],
                console,
                hang_timeout=limits.hang_timeout,
                max_failures=limits.max_failures,
            ):
                if isinstance(found, str):
                    failed.setdefault(found, []).append(scored[index].trial_id)
                else:
                    searcher.recorder.outputs.write(scored[index].trial_id, "test", found.outputs)
                    scored[index].test, scored[index].robustness = found.metrics, found.robustness
                    searcher.recorder.keep(scored[index])
    except KeyboardInterrupt:
        return False
    finally:
        for reason, trials in failed.items():
            has = "has" if len(trials) == 1 else "have"
            say(console, f"{', '.join(sorted(trials))} {has} no test score: {reason}")
    return True


def _export(exporter: Exporter | None, searcher: ParetoSearcher) -> dict[str, str]:
    """Write the whole encoders that a training has trained, of the best seed; return their folders."""
    history = searcher.history
    objective = history.trained_objective
    runs = [run for run in history.by_status(Status.FINISHED) if run.checkpoint]
    if exporter is None or not runs:
        return {}
    best = min(runs, key=lambda run: objective.loss(run.values[objective.name]))
    assignment, _ = searcher.assignment(best)
    folders = exporter(assignment, searcher.config.place.folder / "encoders")
    return {modality: str(folder) for modality, folder in folders.items()}


@undisturbed()
def _finish(
    setup: Setup,
    store: SearchStore,
    tracker: Tracker,
    clock: Clock,
    console: Console,
    models: ModelWriter | None,
    oneshot: OneShot | None,
    searcher: ParetoSearcher | None = None,
    *,
    interrupted: bool,
    encoders: Mapping[str, str] | None = None,
) -> SearchResult:
    """Write the search's result to its folder and to MLflow, and return it."""
    with clock.part("end"):
        config, history = setup.config, setup.history
        if searcher is not None:
            searcher.evidence.note()
        if models is not None:
            models.front(store, searcher and (lambda record: searcher.assignment(record)[0]))
        exhausted = searcher is not None and searcher.candidates.exhausted
        place = config.place
        tracker.wait()  # the result holds the ids of the runs
        result = SearchResult.of(
            setup,
            oneshot,
            verdict=verdict(searcher.evidence) if searcher is not None else None,
            interrupted=interrupted,
            exhausted=exhausted,
        )
        picture = place.folder / "front.png" if history.front() else None
        if picture:
            plot_front(history, picture, f"{config.run_name} on {config.data.dataset}")
        tables = {"front.json": result.front, "methods.json": result.methods, "memory.json": result.memory}
        if result.probe is not None:
            tables["probe.json"] = probe_table(result.probe)
        if oneshot is not None:
            tables["subnets.json"] = oneshot.rows()
        report_at_end(setup, store, result.verdict, partial(say, console), interrupted=interrupted)
        status = "KILLED" if interrupted else "FINISHED"
        folders = models.folders() if models is not None else {}
        note = Note.of(setup, result.front, result.verdict, interrupted=interrupted)
        if not tracker.close(status, tables, picture, verdict=result.verdict, note=note, models=folders):
            say(console, f"not all is in MLflow yet; `{place.resume_command}` writes the rest")
        result = replace(
            result,
            parent_run_id=tracker.parent_id,
            tracking_page=tracker.page,
            seconds=clock.seconds(),
            encoders=encoders or {},
        )
        result.write()
        if models is not None:
            models.sweep()
        store.put_facts({ENDED: State.INTERRUPTED if interrupted else State.FINISHED})
        return result
