from __future__ import annotations

import pytest

from search.resources import place


@pytest.mark.parametrize(
    ("cluster", "samples", "options", "expected"),
    [
        ({"CPU": 2}, 10, {}, (1, 0.0, 2)),
        ({"CPU": 8}, 10, {"max_concurrent": 2}, (4, 0.0, 2)),
        ({"CPU": 8}, 1, {}, (8, 0.0, 1)),
        ({"CPU": 2}, 10, {"max_concurrent": 5}, (1, 0.0, 2)),
        ({"CPU": 2, "GPU": 2}, 10, {}, (1, 1.0, 2)),
        ({"CPU": 2, "GPU": 2}, 10, {"gpus_per_trial": 0.5}, (1, 0.5, 4)),
        ({"CPU": 2, "GPU": 2}, 10, {"gpus_per_trial": 0}, (1, 0.0, 2)),
        ({"CPU": 0}, 10, {"gpus_per_trial": 1}, (1, 1, 10)),
        ({"CPU": 4, "GPU": 1}, 10, {"gpus_per_trial": 1, "max_concurrent": 4}, (1, 1, 4)),
    ],
)
def test_placement(cluster, samples, options, expected) -> None:
    placement = place(cluster, samples, **options)
    assert (placement.cpus, placement.gpus, placement.concurrent) == expected
