"""What a cluster's machines say of their devices."""

from __future__ import annotations

import pytest

from search.nodes import usable_memory


@pytest.mark.parametrize(
    ("answer", "mib"),
    [
        ("23028, 292, Disabled\n", 22736),
        ("16384, 400, [N/A]\n8192, 200, [N/A]\n", 7992),
        ("24564, [N/A], [N/A]\n", 24564),
        ("81559, 551, Enabled\n", None),
        ("[N/A], [N/A], [N/A]\n", None),
        ("", None),
    ],
)
def test_memory_that_programs_can_use(answer: str, mib: int | None) -> None:
    assert usable_memory(answer) == (None if mib is None else mib * 2**20)
