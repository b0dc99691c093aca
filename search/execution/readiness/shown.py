"""What differs between the machines of a cluster, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.execution.readiness.differences import Difference
from search.reporting.progress import say


def show(differences: Sequence[Difference], console: Console) -> None:
    """Print in what machines differ from this one, and below it how each of that is mended."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("node", "what", "there", "here"):
        table.add_column(heading, overflow="fold")
    previous = None
    for found in differences:
        name = found.node.name if found.node.node_id != previous else ""
        previous = found.node.node_id
        table.add_row(*map(Text, (name, found.what, found.there, found.here)))
    console.print(table)
    mends = dict.fromkeys(found.mend for found in differences if found.mend)
    if mends:
        say(console, "what mends it:")
    for mend in mends:
        say(console, f"  {mend}")
