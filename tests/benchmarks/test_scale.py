"""A short form of ``benchmarks/scale.py``."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.conftest import ROOT

TABLE = str(ROOT / "benchmarks" / "tables" / "pmf_nas.parquet")


@pytest.mark.full
def test_what_ray_takes_is_added_to_what_was_simulated() -> None:
    scale = importlib.import_module("scale")
    busy: dict[str, Any] = {"cpu_ms_a_trial": {"Ray Tune": 80.0, "Ray's threads": 40.0, "asking": 5.0}}
    row = scale.extrapolate(4, TABLE, "random", 8, busy)
    found = row["extrapolated"]
    assert (row["nodes"], row["trials"]) == (4, 8)
    assert found["cpu_ms_a_trial"] == pytest.approx(row["simulated_cpu_ms_a_trial"] + 120)
    assert 0.9 < found["efficiency"] < 1
    assert found["driver_load"] == pytest.approx(
        found["cpu_ms_a_trial"] / 1000 * 4 * found["efficiency"] / row["trial_seconds"]
    )
    shown = [column.header for column in scale.tables({"measured": [], "simulated": [row]})[-1].columns]
    assert [header for header in shown if "extrapolated" in str(header)]


@pytest.mark.full
@pytest.mark.ray
def test_raylets_are_measured(run) -> None:
    document = run(
        "scale",
        *("--nodes", "1,2", "--trials-a-node", "2", "--trial-seconds", "2"),
        *("--simulated-nodes", "4", "--simulated-trials", "8", "--samplers", "random"),
    )
    assert [(row["nodes"], row["trials"]) for row in document["measured"]] == [(1, 2), (2, 4), (2, 16)]
    for row in document["measured"]:
        assert row["workers"] == row["nodes"]
        assert row["epochs"] == 8 * row["trials"]
        assert 0 < row["efficiency"] < 1
        parts = sum(ms for part, ms in row["cpu_ms_a_trial"].items() if part != "GCS")
        assert parts == pytest.approx(row["driver_cpu_ms_a_trial"], rel=0.2)
