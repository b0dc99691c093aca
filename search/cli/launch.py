"""The commands ``launch``: write what starts a cluster with a search on it, and run it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from search.cli.options import Given, takes
from search.cli.search import check_search
from search.launching import KINDS, Kind
from search.launching.running.cluster_file import ClusterFile
from search.launching.settings import ClusterSettings
from trainables.errors import UserError
from trainables.options import Help, Settings


@dataclass(frozen=True, kw_only=True)
class LaunchSettings(Settings):
    """What becomes of the files and commands."""

    dry_run: Annotated[bool, Help("Print the files and commands, and do nothing.", flag="--dry-run")] = False
    submit: Annotated[bool, Help("Write the files, and run the commands.", flag="--submit")] = False
    force: Annotated[bool, Help("Replace a file that exists and holds something else.", flag="--force")] = (
        False
    )


launch = typer.Typer(
    no_args_is_help=True,
    help=(
        "Write the files that start a cluster with a search on it.\n\n"
        "The options of the search follow after --, for example "
        "[bold]python search.py launch hosts -- --space pmf_nas[/bold]. docs/cluster.md says which kind of "
        "cluster is yours."
    ),
)


def _command(kind: Kind) -> Callable[..., None]:
    """Return the command that launches a kind of cluster."""

    @takes(LaunchSettings, kind.settings)
    def command(
        given: Given,
        search: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[-- SEARCH OPTIONS]",
                help="Options of the search, as without launch. `hosts` and `aws` start the cluster alone "
                "without them.",
                show_default=False,
            ),
        ] = None,
    ) -> None:
        _launch(kind, given.make(kind.settings), tuple(search or ()), given.make(LaunchSettings))

    command.__doc__ = kind.description
    return command


def _launch(kind: Kind, cluster: ClusterSettings, search: tuple[str, ...], asked: LaunchSettings) -> None:
    if asked.dry_run and asked.submit:
        raise UserError("--dry-run does nothing, and --submit starts the cluster; leave one of them out")
    if search:
        check_search(search)
    elif not kind.alone:
        raise UserError(f"launch {kind.name}: the options of the search are missing, e.g. -- --space pmf_nas")
    if asked.submit:
        cluster.check_submit()
    plan = kind.plan(cluster, search)
    if asked.dry_run:
        for path, text in plan.files.items():
            print(f"# ==== {path} ====\n{text}")
        print("# ==== commands ====")
        print("\n".join(plan.commands))
        return
    # What the defaults make is no work of the user's
    by_default = kind.plan(kind.settings(), ()).files if kind.alone else {}
    replace = None if asked.force else by_default
    written = plan.write(replace=replace)
    for path in plan.files:
        print(f"{'wrote' if path in written else 'unchanged:'} {path}")
    if asked.submit:
        plan.run()
        return
    try:
        cluster.check_submit()
        print("next:")
    except UserError as missing:
        print(f"an example so far: {missing}\nthen:")
    print("\n".join(f"  {command}" for command in plan.commands))


for _name, _kind in KINDS.items():
    launch.command(_name)(_command(_kind))


@dataclass(frozen=True, kw_only=True)
class FetchSettings(Settings):
    """What is fetched, and where to."""

    to: Annotated[
        Path | None,
        Help("Folder for the results.", metavar="FOLDER", default="fetched/NAME, after the cluster"),
    ] = None
    storage_path: Annotated[
        str | None,
        Help(
            "Folder of the searches on the cluster, or its address.",
            metavar="FOLDER",
            default="that of the cluster's file",
        ),
    ] = None


_File = Annotated[Path, typer.Argument(metavar="FILE", help="The file from which `ray up` started it.")]


@launch.command("fetch")
@takes(FetchSettings)
def fetch_results(given: Given, file: _File) -> None:
    """Bring the results of a cluster home: searches with their models, and MLflow.

    It can be repeated, and copies what is new. At the end it says what would be lost with the cluster.
    """
    from search.launching.running.fetching import fetch

    asked, cluster = given.make(FetchSettings), ClusterFile.read(file)
    home = asked.to or Path("fetched", cluster.name)
    for line in fetch(cluster, home, asked.storage_path):
        print(line, flush=True)


@dataclass(frozen=True, kw_only=True)
class DownSettings(Settings):
    """How a cluster is ended."""

    yes: Annotated[bool, Help("Do not ask, whatever would be lost.", flag="--yes")] = False


@launch.command("down")
@takes(DownSettings)
def end_cluster(given: Given, file: _File) -> None:
    """End a cluster of `ray up`: searches, MLflow and Ray on all nodes. Rented nodes are deleted.

    It asks if a search still runs, or if something would be lost that was not fetched.
    """
    from search.launching.running.ending import end
    from search.launching.running.fetching import inventory_of, losses

    cluster = ClusterFile.read(file)
    head = inventory = None
    try:
        head = cluster.head()
        inventory = inventory_of(head)
        lost = list(losses(cluster, inventory).lines())
    except UserError as error:
        lost = [f"what is on the head is not known: {error}"]
    for line in lost:
        print(line, flush=True)
    if lost and not given.make(DownSettings).yes:
        if not sys.stdin.isatty():
            raise UserError("the cluster was not ended; fetch the results first, or add --yes")
        typer.confirm("End the cluster all the same?", abort=True)
    for line in end(cluster, head, inventory):
        print(line, flush=True)
