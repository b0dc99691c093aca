"""Whole searches, MLflow and a password: it is away or there, and what is secret stays so."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from search import SearchConfig, resume_search, run_search
from tests.search.on_ray import kill_family, ray_in

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"
SECRET = "ein-gutes-geheimnis"
#: Runs a search on its own Ray and prints a Ray worker's environment.
SEARCH = """
import os, sys
import ray
from search.cli import main
import search.running

before = search.running.run_trials

def run_trials(*arguments):
    environment = ray.remote(lambda: dict(os.environ))
    print(ray.get(environment.remote()), [actor for actor in ray.nodes()])
    return before(*arguments)

search.running.run_trials = run_trials
sys.argv[0] = "search"
main()
"""


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[MlflowClient]:
    """Run MLflow's own server on a port, with its database in a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", f"{folder}/artifacts"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, text=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield MlflowClient(f"http://127.0.0.1:{port}")
    finally:
        kill_family(process)


def a_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def run(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SEARCH, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder / "ray"), **variables}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def series(client: MlflowClient, name: str) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a search's run; each is a list of steps and values."""
    experiment = client.get_experiment_by_name("paretofuse")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`mlflow.runName` = '{name}'")
    assert parent.info.status == "FINISHED"
    metrics = {
        metric: client.get_metric_history(parent.info.run_id, metric) for metric in parent.data.metrics
    }
    return {name: [(entry.step, entry.value) for entry in found] for name, found in metrics.items()}


@pytest.mark.ray
@pytest.mark.full
def test_resumed_from_another_folder_it_goes_on_where_it_was(
    tmp_path, ray_address, empty_store, monkeypatch
) -> None:
    shutil.copy(TABLE, tmp_path / "table.parquet")
    with ray_in(tmp_path, ray_address, empty_store):
        settings = {"space": "pmf_nas", "replay": "table.parquet", "epochs": 2, "sampler": "random"}
        settings |= {"target": "cpu", "tracking_uri": "sqlite:///mlflow.db"}
        settings |= {"name": "mine", "num_samples": 2}
        first = run_search(SearchConfig(**settings))
        assert first.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://not-this-one")
        again = resume_search("../runs/mine", num_samples="+1")
    assert (again.trials, again.parent_run_id) == (3, first.parent_run_id)
    assert again.tracking_uri == first.tracking_uri
    assert not list((tmp_path / "elsewhere").iterdir())
    found = series(MlflowClient(first.tracking_uri), "mine")
    assert [step for step, _ in found["hypervolume"]] == [1, 2, 3]


@pytest.mark.full
@pytest.mark.ray
def test_a_server_that_was_away_gets_all_and_nobody_gets_the_password(tmp_path_factory, workplace) -> None:
    port = a_free_port()
    short = tmp_path_factory.mktemp("r")  # for Ray's sockets
    search = ["--space", "pmf_nas", "--replay", str(TABLE), "--epochs", "2", "--num-samples", "4"]
    search += ["--target", "cpu", "--sampler", "random", "--max-concurrent", "1"]
    ray = {"RAY_TMPDIR": str(short)}
    told = [run(workplace, *search, "--name", "whole", **ray)]
    address = f"http://me:{SECRET}@127.0.0.1:{port}"
    told.append(run(workplace, *search, "--name", "away", "--tracking-uri", address, **ray))
    assert "not all is in MLflow yet" in told[1].stderr
    with mlflow_server(workplace, port) as client:
        credentials = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}
        missing = subprocess.run(
            [sys.executable, "-m", "search", "--resume", "away"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert missing.returncode == 2
        shown = f"--tracking-uri http://me:***@127.0.0.1:{port}"
        assert missing.stderr.startswith(f"error: {shown}: the password is not stored; set MLFLOW_TRACKING_")
        told.append(run(workplace, "--resume", "away", **credentials, **ray))
        assert "not all is in MLflow yet" not in told[2].stderr
        there = series(client, "away")
    here = series(MlflowClient(f"sqlite:///{workplace}/mlflow.db"), "whole")
    assert [step for step, _ in there["hypervolume"]] == [1, 2, 3, 4]
    assert there == here
    told.append(run(workplace, *search, "--name", "there", MLFLOW_TRACKING_URI=address, **ray))
    assert f"MLflow: http://me:***@127.0.0.1:{port}, from MLFLOW_TRACKING_URI" in told[3].stderr
    for done in told:
        assert SECRET not in done.stdout + done.stderr
    found = subprocess.run(
        ["grep", "-rl", SECRET, str(workplace), str(short)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


#: A search in MLflow, in a process in which everything that connects elsewhere is noted.
SILENT = """
import json, socket

asked = []
look_up, connect = socket.getaddrinfo, socket.socket.connect

def noting(host, *others, **options):
    asked.append(host)
    return look_up(host, *others, **options)

def noting_connect(self, address):
    asked.append(address)
    return connect(self, address)

socket.getaddrinfo, socket.socket.connect = noting, noting_connect

from search.process import prepared_process
from tests.search.reporting.test_tracker import finish_some, make_history, make_tracker

with prepared_process():
    history = make_history()
    tracker = make_tracker("sqlite:///mlflow.db", history)
    finish_some(history)
    assert tracker.close("FINISHED", {}, None)
print(json.dumps(asked))
"""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [False, pytest.param(True, marks=pytest.mark.full)])
def test_mlflow_reports_nothing_to_its_makers_unless_the_user_wants_it(
    workplace, empty_store, wanted
) -> None:
    shutil.copy(empty_store, workplace / "mlflow.db")
    # MLflow itself is silent in tests, which it knows by these.
    quiet = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    environment: dict[str, Any] = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(workplace)}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "false"} if wanted else {}
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout.splitlines()[-1])
    assert bool(asked) is wanted, asked
