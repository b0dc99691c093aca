"""The nodes of a search are collected over all of its runs."""

from __future__ import annotations

from pathlib import Path

from search.records.store import SearchStore
from search.reporting.node_table import NodeTable

ONE = {"hostname": "one", "node_ip": "10.0.0.1", "torch": "2.13.0"}
TWO = {"hostname": "two", "node_ip": "10.0.0.2", "torch": "2.13.0"}


def test_nodes_that_leave_stay_and_those_that_change_are_replaced(tmp_path: Path) -> None:
    store = SearchStore.create(tmp_path / "search", {})
    found = [ONE]
    table = NodeTable(store, lambda: found)
    assert table.rows() == [ONE]
    found[:] = [TWO]
    assert table.rows() == [ONE, TWO]
    changed = {**ONE, "torch": "2.14.0"}
    assert NodeTable(store, lambda: [changed]).rows() == [changed, TWO], "in another run of the search"
