"""The command ``check``: whether a search would run on all nodes of its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from search.cli.defaults import settings_of
from search.cli.options import Given, Output, takes
from search.cli.printing import print_json, stdout_kept_for_json
from search.cli.search import checked, require_a_space
from search.cli.waiting import waiting
from search.config import ConfigurationSettings, SearchConfig

if TYPE_CHECKING:
    from search.execution.readiness.facts import NodeFacts

#: What is shown of a node, with its heading.
_COLUMNS = {
    "name": "node",
    "gpus": "GPUs",
    "accelerator": "kind",
    "python": "Python",
    "torch": "torch",
    "transformers": "transformers",
    "ray": "Ray",
    "code": "code",
}


@takes(
    Output,
    *SearchConfig.blocks().values(),
    without={option.name for option in ConfigurationSettings.options()},
)
def check(given: Given) -> None:
    """Check whether a search would run on all nodes of its cluster, without running it.

    The options are those of the search. It asks nodes about code, versions, data, encoders, storage and CUDA.

    What differs is shown with what mends it, and the exit code is 2. Only prepared data stay, in the cache.
    """
    require_a_space(given)
    as_json = given.make(Output).as_json
    with waiting("loading PyTorch and Ray"):
        config = checked(settings_of(given))
        from search.api import check_nodes

    with stdout_kept_for_json(as_json):
        nodes = check_nodes(config)
    if as_json:
        print_json([node.row(kept_out=False) for node in nodes])
    else:
        _print(nodes)


def _print(nodes: list[NodeFacts]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in _COLUMNS.values():
        table.add_column(heading, overflow="fold")
    for node in nodes:
        table.add_row(*(str(getattr(node, name)) for name in _COLUMNS))
    Console(highlight=False).print(table)
