"""Made-up nodes of a cluster."""

from __future__ import annotations

from typing import Any

from search.execution.readiness.facts import NodeFacts
from search.nodes import Node

TOLD: dict[str, Any] = {
    "python": "3.12.4",
    "executable": "/opt/program/.venv/bin/python",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "ray": "2.60.0",
    "files": {"search/api.py": "1", "trainables/trial/run.py": "2"},
    "folder": "/opt/program",
}


def node(number: int, **changes: Any) -> Node:
    """Return a node with CPU cores."""
    return Node(4.0, node_id=f"0{number}", hostname=f"worker{number}", address=f"10.0.0.{number}", **changes)


def facts(number: int, **changes: Any) -> NodeFacts:
    """Return the facts of a node, which are those of all others but for some changes."""
    return NodeFacts.of(node(number), {**TOLD, **changes})
