"""The command ``cache``: what the cache folder holds, and how it is made smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json
from search.config.markers import DURATION, SIZE
from search.units import format_duration, format_size
from trainables.options import Help, MoreThan, Settings


@dataclass(frozen=True, kw_only=True)
class CacheSettings(Settings):
    """What is removed from the cache."""

    clear: Annotated[
        bool,
        Help(
            "Remove everything of the named kinds. Without a KIND, remove all that can be computed again.",
            flag="--clear",
        ),
    ] = False
    older_than: Annotated[
        float | None, Help("Remove what was not used for this time, for example 7d."), DURATION, MoreThan(0)
    ] = None
    max_size: Annotated[
        int | None,
        Help("Remove what was not used for longest, until the rest takes no more than this size."),
        SIZE,
    ] = None


@takes(CacheSettings, Output)
def cache(
    given: Given,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND]...", help="Kinds of entries, as the list names them.", show_default="all"
        ),
    ] = None,
) -> None:
    """Show what the cache folder holds, or remove some of it.

    What a running process uses is never removed. The states of searches whose trials are stored remotely, and
    calibrations, are removed only if their kind is named.
    """
    from trainables.cache.contents import Item, shrink, summary
    from trainables.cache.folder import cache_dir
    from trainables.disk import free_space

    asked, named = given.make(CacheSettings), kinds or []
    removed: list[Item] = []
    kept: list[tuple[Item, str]] = []
    if asked.clear or asked.older_than is not None or asked.max_size is not None:
        removed, kept = shrink(named, older_than=asked.older_than, max_size=asked.max_size)
    rows = summary(named)
    folder = cache_dir()
    document = {
        "folder": str(folder),
        "free_bytes": free_space(folder),
        "bytes": sum(row["bytes"] for row in rows),
        "kinds": rows,
        "removed": [{"kind": item.kind, "path": str(item.path), "bytes": item.size} for item in removed],
        "kept": [{"kind": item.kind, "path": str(item.path), "reason": reason} for item, reason in kept],
    }
    if given.make(Output).as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    console = Console(highlight=False)
    for item in document["removed"]:
        _line(console, f"removed {item['path']} ({format_size(item['bytes'])})")
    for item in document["kept"]:
        _line(console, f"kept {item['path']} ({item['reason']})")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("kind", no_wrap=True)
    table.add_column("what it is")
    for heading in ("entries", "size", "in use", "unused for"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in document["kinds"]:
        numbers = [f"{row['entries']:,}", format_size(row["bytes"]), f"{row['in_use']:,}"]
        table.add_row(row["kind"], row["description"], *numbers, _ages(row["unused_seconds"]))
    console.print(table)
    total, free = format_size(document["bytes"]), format_size(document["free_bytes"])
    _line(console, f"{total} in {document['folder']}; {free} free on its disk")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _ages(seconds: list[float] | None) -> str:
    if seconds is None:
        return "-"
    low, high = map(_age, seconds)
    return low if low == high else f"{low} to {high}"


def _age(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} d" if seconds >= 2 * 86_400 else format_duration(seconds)
