"""Short forms of the benchmarks that run whole searches, each with a Ray of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.full, pytest.mark.ray]


@pytest.mark.parametrize("name", ["replayed random/none", "trained random/none"])
def test_kills(run, name) -> None:
    """The search that is killed has the trials of the undisturbed one, and nothing is lost or repeated."""
    document = run(
        "kills", *("--kills", "1", "--trials", "6", "--epochs", "4", "--seconds", "0.2"), "--only", name
    )
    assert list(document["searches"]) == [name]
    row = document["searches"][name]
    assert (row["trials"], row["kills"]) == (6, 1)
    assert row["same_configurations"]
    assert row["same_front"]
    assert row["legs"] > 6
    for what in ("lost", "missing", "repeated"):
        assert row[f"trials_{what}"] == 0
    assert row["mlflow_runs_doubled"] == row["mlflow_runs_missing"] == 0
    assert row["processes_left_over"] == row["tracebacks"] == row["drivers_that_hung"] == 0


def test_packing(tmp_path) -> None:
    """The same trials run packed and one a device, each on the same two devices."""
    out = tmp_path / "packing.json"
    options = ["--trials", "6", "--simulated", "50", "--seconds-per-gib", "0.5", "--json", str(out)]
    script = str(ROOT / "benchmarks" / "packing.py")
    subprocess.run([sys.executable, script, *options], check=True, cwd=tmp_path)
    document = json.loads(out.read_text())
    measured = document["measured"]
    assert len(measured["predicted_bytes"]) == 6
    alone, packed = measured["one_a_device"], measured["packed"]
    assert alone["most_on_a_device"] == 1 < packed["most_on_a_device"]
    for row in (alone, packed):
        assert 0 < row["fill"] <= row["highest_fill"] <= 1 + 1e-6
    assert measured["ratio"] == alone["makespan"] / packed["makespan"]
    assert {len(rows) for rows in document["simulated"].values()} == {5}


def test_oneshot(run, squares, tiny_encoders) -> None:
    """A supernet and its subnets, and then trials for as many seconds; each row is what its search found."""
    encoders = f"--text-encoder {tiny_encoders['bert']} --image-encoder {tiny_encoders['vit']}"
    document = run(
        "oneshot",
        *("--seeds", "1", "--engines", "random", "--epochs", "1", "--budget", "2"),
        *("--oneshot", "--supernet-epochs 1 --num-samples 6 --finalists 2 --tau-samples 0 --epochs 1"),
        *("--common", f"--dataset {squares} {encoders} --image-size 32 --batch-size 16"),
        out="--json",
    )
    oneshot, trials = document["rows"]
    assert (oneshot["evaluated"], oneshot["trials"]) == (6, 2)
    assert trials["trials"] > 1
    assert oneshot["sample_epochs"] == 48 * 3
    for row in (oneshot, trials):
        assert 0 < row["front"] <= row["trials"] == len(row["curve"])
        assert row["curve"][-1]["hypervolume"] == pytest.approx(row["hypervolume"])
        assert 0 < row["curve"][0]["seconds"] <= row["curve"][-1]["seconds"] < row["seconds"]
