"""What a cluster's head knows of the results on the cluster. It runs there, as a program.

``python -m search.launching.running.inventory`` prints a document. With ``--prepare`` it makes ready what is
to be fetched, and with ``--fetched`` it notes that this was fetched.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.records.files import read_document
from search.records.place import DEFAULT_STORAGE, FILE, Place, absolute
from search.records.store import SearchStore
from trainables.cache import cache_dir, make_folder

_DATABASE = Path("~/mlflow.db")
_ARTIFACTS = "MLFLOW_ARTIFACTS_DESTINATION"
_OPTIONS = "PARETOFUSE_OPTIONS"


@dataclass(frozen=True)
class Search:
    """A search on the cluster.

    Attributes:
        name: Its name.
        host: The machine on which a process runs it; None if none does.
        pid: That process, if it is on the head.
        fetched: Whether nothing has changed since it was fetched.
    """

    name: str
    host: str | None
    pid: int | None
    fetched: bool

    @property
    def running(self) -> bool:
        """Whether a process runs the search."""
        return self.host is not None


@dataclass(frozen=True)
class Inventory:
    """What there is.

    Attributes:
        storage: Folder or remote address that holds the searches.
        stores: Folder on the head with the stores of the searches; that of ``storage`` unless it is remote.
        searches: The searches.
        database: MLflow's database on the head; None if there is none.
        copy: The copy of it to fetch.
        database_fetched: Whether it has not changed since it was fetched.
        artifacts: Folder or remote address of MLflow's artifacts; None if there are none.
    """

    storage: str
    stores: str
    searches: tuple[Search, ...]
    database: str | None
    copy: str
    database_fetched: bool
    artifacts: str | None

    def to_json(self) -> str:
        """Return a JSON document."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Inventory:
        """Read a document that ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "searches": tuple(Search(**each) for each in values["searches"])})


def take(storage: str | None = None) -> Inventory:
    """Return what there is.

    Args:
        storage: Folder or remote address of the searches; None takes the cluster's default.
    """
    place = Place(absolute(storage or _default_storage()), "any")
    stores = place.folder.parent
    database = _DATABASE.expanduser()
    artifacts = os.environ.get(_ARTIFACTS, "")
    fetched = _noted("fetched")
    searches = []
    for store in sorted(stores.glob(f"*/{FILE}")):
        driver = SearchStore.driver(store.parent)
        name = store.parent.name
        known = fetched.get(str(store)) == _stamp(store)
        host = None if driver is None else str(driver.get("host"))
        pid = driver.get("pid") if driver is not None and host == platform.node() else None
        searches.append(Search(name, host, pid, known))
    return Inventory(
        place.storage,
        str(stores),
        tuple(searches),
        str(database) if database.exists() else None,
        str(_folder() / "mlflow.db"),
        fetched.get(str(database)) == _stamp(database),
        artifacts if "://" in artifacts or os.path.isdir(artifacts) else None,
    )


def prepare(inventory: Inventory) -> None:
    """Copy MLflow's database, between two of its transactions, and note what is there to fetch."""
    files = [Path(inventory.stores, search.name, FILE) for search in inventory.searches if not search.running]
    files += [Path(inventory.database)] if inventory.database else []
    make_folder(_folder())
    _note("to-fetch").write_text(json.dumps({str(file): _stamp(file) for file in files}))
    if inventory.database is None:
        return
    Path(inventory.copy).unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(inventory.database)) as source,
        contextlib.closing(sqlite3.connect(inventory.copy)) as target,
    ):
        source.backup(target)


def note_fetched() -> None:
    """Note that what ``prepare`` has found was fetched."""
    _note("fetched").write_text(json.dumps(_noted("fetched") | _noted("to-fetch")))


def _default_storage() -> str:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--storage-path", default=DEFAULT_STORAGE)
    known, _ = parser.parse_known_args(shlex.split(os.environ.get(_OPTIONS, "")))
    return str(known.storage_path)


def _folder() -> Path:
    return cache_dir() / "launching"


def _note(name: str) -> Path:
    return _folder() / f"{name}.json"


def _noted(name: str) -> dict[str, Any]:
    """Return the stamps that a note holds, by file."""
    return read_document(_note(name))


def _stamp(file: Path) -> list[int] | None:
    """Return what differs once a file has changed."""
    if not file.exists():
        return None
    status = file.stat()
    return [status.st_mtime_ns, status.st_size]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage-path")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--fetched", action="store_true")
    asked = parser.parse_args()
    if asked.fetched:
        note_fetched()
    inventory = take(asked.storage_path)
    if asked.prepare:
        prepare(inventory)
    print(inventory.to_json())


if __name__ == "__main__":
    main()
