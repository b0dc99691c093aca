"""The commands ``launch``: write what starts a cluster with a search on it, and run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from search.cli.options import Given, takes
from search.cli.search import check_search
from search.launching import KINDS, Kind
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
                help="Options of the search, as without launch. Without them the cluster alone is started.",
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
    replace = None if asked.force else kind.plan(kind.settings(), ()).files
    written = plan.write(replace=replace)
    for path in plan.files:
        print(f"{'wrote' if path in written else 'unchanged:'} {path}")
    if asked.submit:
        plan.run()
    else:
        print("next:")
        print("\n".join(f"  {command}" for command in plan.commands))


for _name, _kind in KINDS.items():
    launch.command(_name)(_command(_kind))
