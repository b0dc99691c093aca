"""Databases that several programs make at once, and that are nobody else's business."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from search.config.address import TrackingAddress
from search.reporting.mlflow_server import Experiment

OPEN = """
import sys, time
from search.config.address import TrackingAddress
from search.reporting.mlflow_server import Experiment
address = TrackingAddress.parse("sqlite:///place/mlflow.db")
time.sleep(max(0, float(sys.argv[1]) - time.time()))
print(Experiment.open(address, "mine").experiment_id)
"""
#: Makes the tables as MLflow's own programs do, which know of no lock.
OTHER = """
import sys, time
from mlflow.tracking import MlflowClient
time.sleep(max(0, float(sys.argv[1]) - time.time()))
MlflowClient("sqlite:///place/mlflow.db").search_experiments()
"""


def together(*programs: str) -> list[subprocess.CompletedProcess[str]]:
    """Run programs that start their work at the same time."""
    start = time.time() + 8
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for program in programs
    ]
    ended = [(process, *process.communicate(timeout=120)) for process in running]
    return [subprocess.CompletedProcess([], p.returncode, out, err) for p, out, err in ended]


@pytest.mark.full
@pytest.mark.parametrize("attempt", range(4))
def test_two_first_searches_at_once_take_turns(workplace, attempt) -> None:
    for done in together(OPEN, OPEN):
        assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
    assert len(MlflowClient("sqlite:///place/mlflow.db").search_experiments()) == 2  # Default is the other


@pytest.mark.full
def test_it_waits_for_another_program_that_makes_the_tables(workplace) -> None:
    (workplace / "place").mkdir()
    search, _ = together(OPEN, f"import time, sys; sys.argv[1] = float(sys.argv[1]) - 1\n{OTHER}")
    assert search.returncode == 0, search.stderr


def test_database_and_artifacts_are_private(workplace) -> None:
    before = os.umask(0o022)
    try:
        experiment = Experiment.open(TrackingAddress.parse("sqlite:///place/mlflow.db"), "mine")
        run = experiment.create_run("first", {})
        experiment.client.log_text(run.info.run_id, "x", "config.json")
    finally:
        os.umask(before)
    folders = [workplace / "place", workplace / "mlruns", workplace / "mlruns" / experiment.experiment_id]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3
    files = [path for path in (workplace / "place").iterdir() if path.is_file()]
    assert {path.name for path in files} == {"mlflow.db", "mlflow.db.lock"}
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 2


def test_what_is_there_keeps_its_permissions(workplace, empty_store) -> None:
    place = workplace / "place"
    place.mkdir(mode=0o755)
    (place / "mlflow.db").write_bytes(empty_store.read_bytes())
    (place / "mlflow.db").chmod(0o640)
    assert Experiment.open(TrackingAddress.parse("sqlite:///place/mlflow.db"), "paretofuse")
    assert [path.stat().st_mode & 0o777 for path in (place, place / "mlflow.db")] == [0o755, 0o640]


def test_a_database_that_is_none_is_said_to_be_so_at_once(workplace) -> None:
    (workplace / "mlflow.db").write_text("this is a text and no database" * 100)
    started = time.monotonic()
    with pytest.raises(Exception, match="not a database"):
        Experiment.open(TrackingAddress.parse("sqlite:///mlflow.db"), "mine")
    assert time.monotonic() - started < 5
