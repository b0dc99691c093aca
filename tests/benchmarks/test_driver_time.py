"""A short form of ``benchmarks/driver_time.py``."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.full


@pytest.mark.parametrize("server", ["dead", "sqlite"])
def test_each_search_runs_the_same_trials(run, server) -> None:
    searched = ["random"] if server == "dead" else ["random", "tpe"]
    document = run(
        "driver_time",
        *("--trials", "12", "--samplers", ",".join(searched), "--schedulers", "none"),
        *("--servers", server, "--no-memory"),
    )
    names = [f"{name}/none, 12 trials, MLflow {server}" for name in searched]
    assert list(document["searches"]) == names
    for row in document["searches"].values():
        assert (row["trials"], row["epochs"]) == (12, 12 * 8)
        assert row["mlflow_took_everything"] is (server != "dead")  # its thread did write
        assert sum(row["wall_ms_by_part"].values()) == pytest.approx(row["wall_ms"])
        assert sum(row["cpu_ms_by_part"].values()) == pytest.approx(row["cpu_ms"])
        assert row["disk_flush_ms"] > 0
        parts = {"asking", "telling", "recording", "halving", "tracking", "front", "progress", "cleaning"}
        assert set(row["wall_ms_by_part"]) == parts
