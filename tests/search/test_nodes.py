"""What a cluster's machines say of their devices."""

from __future__ import annotations

import pytest

from search.nodes import Gpus


@pytest.mark.parametrize(
    ("answer", "mib", "capability"),
    [
        ("23028, 292, Disabled, 8.6\n", 22736, 8.6),
        ("16384, 400, [N/A], 7.5\n8192, 200, [N/A], 8.9\n", 7992, 7.5),
        ("24564, [N/A], [N/A], [N/A]\n", 24564, None),
        ("24564, [N/A], [N/A], 12.0\n24564, [N/A], [N/A], [N/A]\n", 24564, None),
        ("81559, 551, Enabled, 9.0\n", None, 9.0),
        ("[N/A], [N/A], [N/A], [N/A]\n", None, None),
        ("", None, None),
    ],
)
def test_what_is_known_of_gpus(answer: str, mib: int | None, capability: float | None) -> None:
    assert Gpus.read(answer) == Gpus(None if mib is None else mib * 2**20, capability)
