"""The command ``export``: a member of a search's front as a folder of its own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import StorageSettings
from search.config.markers import SIZE
from trainables.errors import UserError
from trainables.options import AtLeast, Help, Settings


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Which member is meant, and what its copy holds."""

    member: Annotated[
        str | None,
        Help(
            "The member: its number on the front, from 1, or the name of its trial.",
            metavar="N|TRIAL",
            default="the best one",
        ),
    ] = None
    budget: Annotated[
        int | None,
        Help("Take the best member whose training needs at most this memory, for example 3GiB."),
        SIZE,
        AtLeast(1),
    ] = None
    standalone: Annotated[
        bool,
        Help(
            "Copy the pretrained encoders, too, so that the model loads where neither they nor the hub are "
            "to be had.",
            flag="--standalone",
        ),
    ] = False


@takes(ExportSettings, StorageSettings, Output, without=("name",))
def export(
    given: Given,
    search: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name or folder of the search; latest is the one that began last.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.", show_default=False)],
) -> None:
    """Copy a model out of a search: the best member of its front, or the best one within a budget.

    Best is the best value on the validation split of the first objective that training decides. The folder
    holds weights, settings and a model card. It loads without a search, and MLflow serves it.
    """
    settings = given.make(ExportSettings)
    if settings.member is not None and settings.budget is not None:
        raise UserError("--budget: chooses a member, and --member names one; leave one of them out")
    with waiting("loading PyTorch"):
        from search.exporting.commands import usage
        from search.exporting.members import choose, copy_out, members_of
        from search.records.shelf import named

    place = named(search, given.make(StorageSettings).storage_path)
    members = members_of(place)
    member = choose(members, settings.member, settings.budget)
    copy_out(member, folder, standalone=settings.standalone)
    about, use = member.about, usage(str(folder), member.kinds)
    if given.make(Output).as_json:
        print_json({"folder": str(folder), "search": place.name, **about, "commands": use})
        return
    console = Console(highlight=False)
    console.print(
        f"{about['trial_id']} of '{place.name}', number {member.number} of {about['members']} on its front: "
        f"{about['method']}",
        markup=False,
        soft_wrap=True,
    )
    for line in about["figures"]:
        test = f"; test {line['test']}" if line["test"] else ""
        if line["value"] or test:
            console.print(
                f"  {line['name']}: {line['value'] or 'unknown'}{test}", markup=False, soft_wrap=True
            )
    console.print(f"model: {shlex.quote(str(folder))}   (README.md says more)", markup=False, soft_wrap=True)
    print_usage(use, console)


def print_usage(use: dict[str, Any], console: Console) -> None:
    """Print how a model is loaded, applied, scored and served."""
    console.print("load it, in Python:")
    for line in use["load"].splitlines():
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for name, command in (("apply", use["apply"]), ("score", use["score"]), ("serve", use["serve"])):
        console.print(f"{name}: {command}", markup=False, soft_wrap=True)
