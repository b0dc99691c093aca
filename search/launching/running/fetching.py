"""Brings the results of a cluster to this machine, and says what its end would take with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.invocation import program
from search.launching.running.cluster_file import ClusterFile
from search.launching.running.inventory import Inventory
from search.launching.running.machine import Machine
from search.launching.running.remote_copy import copy_remote
from search.records.place import FILE
from search.units import format_size
from trainables.disk import writing

_INVENTORY = "python -m search.launching.running.inventory"
#: The folder of the results, and MLflow's database and artifacts, in the folder at home.
_RUNS, _DATABASE, _ARTIFACTS = "runs", "mlflow.db", "mlflow"


@dataclass(frozen=True)
class Losses:
    """What would be lost if a cluster were ended now.

    Attributes:
        running: Names of searches that run, which would be interrupted.
        unfetched: What is on the head's disk alone and would go with it, in words.
    """

    running: tuple[str, ...]
    unfetched: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.running or self.unfetched)

    def lines(self) -> Iterator[str]:
        """Yield a line for each."""
        for name in self.running:
            yield f"search '{name}' still runs, and would be ended; --resume goes on with it elsewhere"
        for what in self.unfetched:
            yield f"{what} was not fetched, and would be lost with the head's disk"


def inventory_of(head: Machine, *options: str) -> Inventory:
    """Return what the head knows of the results.

    Args:
        head: The head of the cluster.
        *options: Options of the program ``search.launching.running.inventory``.

    Raises:
        UserError: If the head cannot be asked.
    """
    # What a library prints at its start precedes the document.
    printed = head.run(" ".join([_INVENTORY, *map(shlex.quote, options)]))
    return Inventory.from_json(printed.strip().splitlines()[-1])


def losses(cluster: ClusterFile, inventory: Inventory) -> Losses:
    """Return what would be lost if a cluster were ended now."""
    running = tuple(search.name for search in inventory.searches if search.running)
    if cluster.keeps_disks:
        return Losses(running, ())
    unfetched = [
        f"the front of search '{each.name}'"
        for each in inventory.searches
        if not (each.fetched or each.running)
    ]
    if inventory.database is not None and not inventory.database_fetched:
        unfetched.append("MLflow's database")
    return Losses(running, tuple(unfetched))


def fetch(cluster: ClusterFile, home: Path, storage: str | None = None) -> Iterator[str]:
    """Bring the results to this machine: searches with their models, MLflow's database and artifacts.

    What is here already is not copied again.

    Args:
        cluster: The cluster.
        home: The folder for them.
        storage: Folder or remote address of the searches; None takes the cluster's default.

    Yields:
        Lines that say what came, and what would be lost if the cluster were ended now.

    Raises:
        UserError: If something cannot be copied.
    """
    head = cluster.head()
    options = () if storage is None else ("--storage-path", storage)
    found = inventory_of(head, "--prepare", *options)
    with writing(home, "choose another folder with --to"):
        home.mkdir(parents=True, exist_ok=True)
    # Another process writes the store of a running search, so that a copy of the file could be torn.
    running = [search.name for search in found.searches if search.running]
    torn = [f"/{name}/{FILE}*" for name in running]
    if "://" in found.storage:
        copy_remote(found.storage, home / _RUNS)
    if found.searches:
        head.fetch(f"{found.stores}/", home / _RUNS, torn)
    if found.database is not None:
        head.fetch(found.copy, home / _DATABASE)
    if found.artifacts is not None:
        if "://" in found.artifacts:
            copy_remote(found.artifacts, home / _ARTIFACTS)
        else:
            head.fetch(f"{found.artifacts}/", home / _ARTIFACTS)
    left = losses(cluster, inventory_of(head, "--fetched", *options))
    # One that another head has run is in the bucket alone.
    names = {search.name for search in found.searches} | {
        store.parent.name for store in (home / _RUNS).glob(f"*/{FILE}")
    }
    for name in sorted(names):
        folder = home / _RUNS / name
        yield f"search '{name}': {format_size(_size(folder))}, {_models(folder)}, in {folder}"
    if not names:
        yield f"no searches in {found.storage}"
    if found.database is not None:
        size = format_size(_size(home / _DATABASE) + _size(home / _ARTIFACTS))
        store, artifacts = f"sqlite:///{home / _DATABASE}", str(home / _ARTIFACTS)
        command = ["mlflow", "ui", "--backend-store-uri", store, "--artifacts-destination", artifacts]
        yield f"MLflow: {size}; open it with `{shlex.join(command)}`"
    yield from left.lines()
    if not left:
        down = f"{program()} launch down {shlex.quote(str(cluster.path))}"
        yield f"nothing would be lost; `{down}` ends the cluster"


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _models(folder: Path) -> str:
    count = sum(path.is_dir() for path in folder.glob("*/checkpoint_*"))
    return f"{count} model{'' if count == 1 else 's'}"
