"""The command ``report``: one page on one or several searches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json, stdout_kept_for_json
from search.cli.waiting import waiting
from search.config import StorageSettings
from trainables.errors import UserError
from trainables.options import Help, Settings


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Where the page is written."""

    panel: ClassVar[str | None] = None

    out: Annotated[
        Path | None,
        Help(
            "File to write.",
            metavar="FILE",
            default="report.html in the search's folder, or here if there are several searches",
        ),
    ] = None


@takes(ReportSettings, StorageSettings, Output, without=("name",))
def report(
    given: Given,
    searches: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Names or folders of searches; latest is the one that began last.",
            show_default=False,
        ),
    ],
) -> None:
    """Write a page on one or several searches, which opens without a network.

    A search may have ended, have been interrupted, or be running. With --json, the content of the page is
    printed, and no file is written unless --out names one.
    """
    from search.reporting.progress import error_console

    out, as_json = given.make(ReportSettings).out, given.make(Output).as_json
    storage = given.make(StorageSettings).storage_path
    if out is not None and not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.resolve().parent}")
    with waiting("loading PyTorch"):
        from search.records.shelf import named
        from search.reporting.report.document import document_of
        from search.reporting.report.writing import FILE, write_page
    places = [named(name, storage) for name in searches]
    with stdout_kept_for_json(as_json), error_console().status("reading results"):
        document = document_of(places)
        if out is None and not as_json:
            alone = len(places) == 1 and not places[0].remote
            out = places[0].folder / FILE if alone else Path(FILE)
        if out is not None:
            write_page(document, out)
    if as_json:
        print_json(document)
        return
    console = Console(highlight=False)
    console.print(f"report: {out}   (open it in a browser)", markup=False, soft_wrap=True)
