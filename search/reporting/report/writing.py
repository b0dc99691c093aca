"""The report as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.records.files import write_whole
from search.records.store import SearchStore
from search.reporting.report.document import report_document, search_document
from search.reporting.report.page import render
from search.reporting.report.source import Source
from search.setup import Setup
from trainables.errors import UserError

#: Name of the report in a search's folder.
FILE = "report.html"


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a report's document, in one step; an earlier one is replaced.

    Raises:
        UserError: If the file cannot be written.
    """
    try:
        write_whole(path, render(document))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def report_at_end(
    setup: Setup,
    store: SearchStore,
    verdict: str | None,
    say: Callable[[str], None],
    *,
    interrupted: bool,
) -> None:
    """Write the report of the search that this process has run into the search's folder.

    Whatever goes wrong is said in a line, because the search's results do not depend on its report.

    Args:
        setup: The setup of the search, whose history has its luck.
        store: Its store.
        verdict: What its front means, or None.
        say: Called with a line.
        interrupted: Whether the search was cut off.
    """
    path = setup.config.place.folder / FILE
    try:
        source = Source.of(setup, store, verdict, interrupted=interrupted)
        write_page(report_document([search_document(source)]), path)
    except Exception as error:
        reason = str(error).partition("\n")[0] if isinstance(error, UserError) else repr(error)[:300]
        with suppress(OSError):
            path.unlink()  # one of an earlier end would be taken for this one's
        say(f"there is no report: {reason}")
