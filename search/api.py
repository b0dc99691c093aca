"""The Python API behind the command line."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from search.config import SearchConfig
from search.engine.prior import require_target
from search.execution.cluster import cluster, reach
from search.execution.readiness.facts import NodeFacts
from search.execution.readiness.ready import require_ready
from search.nodes import NodeError
from search.process import prepared_process
from search.records import versions
from search.records.opening import created_store, holds_search, opened_store, read_store
from search.records.place import DEFAULT_STORAGE, MOVE, Place, absolute
from search.records.shelf import LATEST, removing
from search.records.store import SearchStore, TakenError
from search.reporting.clock import Clock
from search.reporting.forgetting import forget
from search.reporting.progress import error_console, say
from search.reporting.tracker import mlflow_imported
from search.result import SearchResult
from search.running import decide, place_trials, run
from search.setup import Found, look_up, set_up
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
        return run(found, store, prior_store, clock, console)


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
        return run(look_up(config), store, prior_store, clock, console)


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
        found, decision = decide(found, console)
        setup = set_up(found, console)
        provisions = setup.backend.prepare(setup.space, console).provisions
        placement = place_trials(setup, decision)
        examiner = require_ready(setup.config.place, provisions, placement, decision.nodes, console)
        return list(examiner.facts.values())


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
