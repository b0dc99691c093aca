"""Real nodes, some of which have another program, are asked before trials run on them and when they join."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.execution.readiness.examining import Examiner
from search.execution.readiness.ready import require_ready
from search.execution.readiness.watch import Watch
from search.nodes import find_nodes
from search.placement import place
from search.records.place import Place
from tests.conftest import ROOT
from tests.search.execution.readiness.bare import Bare
from trainables.errors import UserError

pytestmark = pytest.mark.ray


@pytest.mark.full
def test_nodes_are_asked_at_the_start_and_when_they_join(
    start_cluster: Callable[..., Any], changed_program: Path, tmp_path: Path
) -> None:
    add_node = start_cluster()
    out = StringIO()
    console = Console(file=out, width=100)
    where = Place(str(tmp_path / "runs"), "mine")
    where.folder.mkdir(parents=True)

    def require() -> Examiner:
        nodes = find_nodes()
        return require_ready(where, Bare(), place(nodes, 4), nodes, console)

    require()
    assert out.getvalue() == ""

    add_node(PYTHONPATH=str(ROOT))
    examiner = require()
    assert out.getvalue().startswith("2 nodes: same code, data and storage (")

    placement = place(find_nodes(), 4)
    said: list[str] = []
    bare = add_node(PYTHONPATH=str(ROOT), BARE="1").node_id
    changed = add_node(PYTHONPATH=str(changed_program)).node_id
    Watch(examiner, placement, said.append).look()
    assert set(placement.kept_out) == {bare, changed}
    lines = "\n".join(said)
    assert "has joined and gets no trials: dataset /data/food: is not there" in lines
    assert "has joined and gets no trials: code: 1 file differs: search/units.py" in lines

    with pytest.raises(UserError, match=r"^2 of 4 nodes cannot run trials as this one does"):
        require()
    assert "rsync -aR /data/food" in out.getvalue()
    assert "1 file differs" in out.getvalue()
    assert not list(where.folder.iterdir())
