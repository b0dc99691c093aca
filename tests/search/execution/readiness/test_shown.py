"""The table of differences."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from search.execution.readiness.differences import Difference, of_code
from search.execution.readiness.shown import show
from tests.search.execution.readiness.nodes import facts


@pytest.mark.parametrize("width", [60, 120])
def test_it_keeps_to_the_width_and_commands_stay_whole(width: int) -> None:
    long = [
        *of_code(facts(2, torch="2.1.0", files={"search/api.py": "other"}), facts(1)),
        Difference(
            facts(3), "dataset /data/[food]", "is not there", "is there", "rsync -aR /data 10.0.0.3:/"
        ),
    ]
    out = StringIO()

    show(long, Console(file=out, width=width))

    table, _, mends = out.getvalue().partition("what mends it:\n")
    assert max(map(len, table.splitlines())) <= width
    assert table.count("worker2") == table.count("worker3") == 1
    assert "[food]" in table
    assert [line.strip() for line in mends.splitlines()] == [found.mend for found in long]
