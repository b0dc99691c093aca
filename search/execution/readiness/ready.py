"""Requires, before a search's first trial, that all machines of its cluster can run trials."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from search.backends.base import Provisions
from search.execution.readiness.examining import Examiner
from search.execution.readiness.shown import show
from search.nodes import Node
from search.placement import Placement
from search.records.place import Place
from search.reporting.progress import say
from search.units import format_duration
from trainables.errors import UserError


def require_ready(
    place: Place,
    provisions: Provisions | None,
    placement: Placement,
    nodes: Sequence[Node],
    console: Console,
) -> Examiner:
    """Examine the machines that can get trials, and say in a line that they are alike.

    Nothing is said of a machine that is alone.

    Args:
        place: The place of the search.
        provisions: What trials need; None if all of it comes with them, as recorded trials do.
        placement: Decides where trials run.
        nodes: The machines of the cluster that are not kept out.
        console: Where it is said, and what is wrong is shown.

    Returns:
        What has examined them, and can examine others.

    Raises:
        UserError: If trials would not run on one of them as they do here.
    """
    on_gpus = placement.device == "cuda" and provisions is not None
    examiner = Examiner.of(place, provisions, nodes, on_gpus=on_gpus)
    asked = usable(nodes, placement)
    if not asked or (not on_gpus and all(node.node_id == examiner.here.node_id for node in asked)):
        return examiner
    started = time.monotonic()
    with console.status(f"asking {_count(len(asked))} about code, data and storage"):
        differences = examiner.examine(asked)
    if differences:
        show(differences, console)
        names = {found.node.node_id: found.node.name for found in differences}
        raise UserError(
            f"{len(names)} of {_count(len(asked))} cannot run trials as this one does, see above: "
            f"{', '.join(names.values())}"
        )
    for node in examiner.late:
        say(console, f"{node.name} needs longer to read its data: its first trial compares them")
    if len(asked) > 1:
        same = ["code", "storage"] if provisions is None else ["code", "data", "storage"]
        works = ", and CUDA works" if on_gpus else ""
        took = format_duration(time.monotonic() - started)
        say(console, f"{_count(len(asked))}: same {', '.join(same[:-1])} and {same[-1]}{works} ({took})")
    return examiner


def usable(nodes: Sequence[Node], placement: Placement) -> list[Node]:
    """Return the machines that have what trials ask for."""
    return [node for node in nodes if (node.gpus if placement.device == "cuda" else node.cpus)]


def _count(nodes: int) -> str:
    return f"{nodes} node{'s' if nodes != 1 else ''}"
