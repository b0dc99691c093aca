"""The commands ``runs`` and ``rm``: which searches there are, and the removal of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import StorageSettings
from search.units import format_size
from trainables.errors import UserError
from trainables.options import Help, Settings

if TYPE_CHECKING:
    from search.records.shelf import Shelved


@dataclass(frozen=True, kw_only=True)
class RemovalSettings(Settings):
    """What is removed, and whether it is asked about."""

    mlflow: Annotated[
        bool,
        Help("Delete its runs in MLflow, too. MLflow keeps deleted runs until `mlflow gc`.", flag="--mlflow"),
    ] = False
    yes: Annotated[bool, Help("Do not ask.", flag="--yes")] = False


@takes(StorageSettings, Output, without=("name",))
def runs(given: Given) -> None:
    """List the searches in a folder: their state, results and size, and how to go on with them."""
    from search.records.shelf import shelf

    storage = given.make(StorageSettings).storage_path
    found = shelf(storage)
    if given.make(Output).as_json:
        print_json([search.to_dict() for search in found])
        return
    console = Console(highlight=False)
    if not found:
        console.print(f"{storage} holds no searches", markup=False)
        return
    _print(found, console)


@takes(StorageSettings, RemovalSettings, without=("name",))
def rm(
    given: Given,
    search: Annotated[
        str, typer.Argument(metavar="NAME", help="Name or folder of the search.", show_default=False)
    ],
) -> None:
    """Remove a search, with the weights of its trials."""
    from search.records.place import Place
    from search.records.shelf import look

    asked, storage = given.make(RemovalSettings), given.make(StorageSettings).storage_path
    found = look(Place.of(search, storage))
    if not asked.yes:
        runs = " and its runs in MLflow" if asked.mlflow else ""
        try:
            sure = typer.confirm(f"remove {found.place} ({_results(found)}){runs}?", err=True)
        except typer.Abort:
            sure = False
        if not sure:
            raise UserError(f"{search}: was not removed; --yes removes it without a question")
    with waiting("loading MLflow"):
        from search.api import remove_search
    deleted = remove_search(search, storage_path=storage, mlflow=asked.mlflow)
    in_mlflow = f", and {deleted} runs in MLflow" if asked.mlflow else ""
    print(f"removed {found.place}{in_mlflow}")


def _print(found: list[Shelved], console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("name", "state", "space", "trials", "front", "size"):
        table.add_column(heading, justify="right" if heading in ("trials", "front", "size") else "left")
    for search in found:
        trials = "" if search.trials is None else f"{search.trials} of {search.planned}"
        front = "" if search.front is None else str(search.front)
        row = (search.place.name, str(search.state), search.space, trials, front, format_size(search.size))
        table.add_row(*row)
    console.print(table)
    for search in found:
        if search.note:
            console.print(f"{search.place.name}: {search.note}", markup=False, soft_wrap=True)
    left = [search for search in found if search.state == "interrupted"]
    for search in left:
        console.print(f"go on: {search.go_on}", markup=False, soft_wrap=True)


def _results(search: Shelved) -> str:
    trials = "" if search.trials is None else f"{search.trials} trials, "
    return f"{search.state}, {trials}{format_size(search.size)}"
