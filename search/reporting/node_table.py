"""The table of the nodes that a search has had, with the versions that they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from search.records.stays import HOSTNAME, NODE_IP
from search.records.store import SearchStore

_FACT = "nodes"


class NodeTable:
    """Collects nodes over all runs of a search; one that comes back with other versions replaces itself.

    Args:
        store: Keeps the table.
        find: Returns a row for each node that is known now, with its ``hostname`` and ``node_ip``.
    """

    def __init__(self, store: SearchStore, find: Callable[[], Sequence[dict[str, Any]]]) -> None:
        self._store = store
        self._find = find
        self._rows: list[dict[str, Any]] = store.fact(_FACT) or []

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each node that the search has, or has had, in the order in which they came."""
        by_node = {(row[HOSTNAME], row[NODE_IP]): row for row in (*self._rows, *self._find())}
        if (rows := list(by_node.values())) != self._rows:
            self._rows = rows
            self._store.put_facts({_FACT: rows})
        return self._rows
