"""Functions that print JSON documents and lists, for several commands."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_json(document: Any) -> None:
    """Print a document on standard output."""
    print(json.dumps(document, indent=1))


@contextlib.contextmanager
def stdout_kept_for_json(as_json: bool) -> Iterator[None]:
    """Redirect libraries' output to standard error, so that standard output holds only the document."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def print_list(
    rows: list[dict[str, Any]],
    as_json: bool,
    shown: Mapping[str, Callable[[dict[str, Any]], str]] | None = None,
) -> None:
    """Print rows as JSON, or as a table of name, description and the columns that ``shown`` formats."""
    if as_json:
        print_json(rows)
        return
    shown = shown or {}
    table = Table(show_lines=bool(shown))
    for heading in ("name", "description", *shown):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["description"], *(cell(row) for cell in shown.values()))
    Console().print(table)
