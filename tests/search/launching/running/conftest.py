"""A cluster without machines: its nodes are folders here, and ``ssh`` and ``ray`` are stand-ins."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from search.launching import KINDS
from search.records.store import SearchStore
from tests.search.cli.conftest import call

__all__ = ["call"]

ROOT = Path(__file__).parents[4]
HEAD, WORKERS = "10.0.0.1", ("10.0.0.2", "10.0.0.3")

#: Runs the command in the home of a node. A node with a file ``far`` is reached from the head alone.
_SSH = """#!/bin/bash
while [[ $1 == -* ]]; do shift 2; done
address=${1#*@}; home=$NODES/$address; shift
if [ ! -d "$home" ] || [ -e "$home/far" -a "$HOME" != "$NODES/10.0.0.1" ]; then
    echo "ssh: connect to host $address port 22: No route to host" >&2; exit 255
fi
cd "$home"; HOME=$home exec bash -c "$*"
"""
_RAY = """#!/bin/bash
echo "$(basename "$HOME"): ray $*" >> "$NODES/calls"
[ "$1" != stop ] || touch "$HOME/stopped"
"""
_PGREP = """#!/bin/bash
if [ -e "$HOME/stopped" -a ! -e "$HOME/stuck" ]; then echo 0; exit 1; fi; echo 8
"""
_MLFLOW = 'echo "$(basename "$HOME"): mlflow $*" >> "$NODES/calls"\n'
#: Holds a store as a running search does, until it is ended.
_HOLD = """
import pathlib, sys, time
from search.records.store import SearchStore
store = SearchStore.open(pathlib.Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


@dataclass
class Cluster:
    """The cluster, and what is on it."""

    nodes: Path
    storage: Path

    @property
    def head(self) -> Path:
        """The home of the head."""
        return self.nodes / HEAD

    def calls(self) -> list[str]:
        """What was run on which node, in turn."""
        path = self.nodes / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def search(self, name: str) -> Path:
        """Make a search with a model."""
        folder = self.storage / name
        SearchStore.create(folder, {"search_id": name}).close()
        checkpoint = folder / "trial-000" / "checkpoint_000001"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights.safetensors").write_bytes(b"w" * 1000)
        (folder / "front.png").write_bytes(b"picture")
        return folder

    def database(self) -> sqlite3.Connection:
        """Return MLflow's database, with a row that is not yet in its file but in the write-ahead log."""
        connection = sqlite3.connect(self.head / "mlflow.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS runs (name TEXT)")
        connection.execute("INSERT INTO runs VALUES ('first')")
        return connection


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a search, as far as others can see."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def cluster(tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster of ``cluster-local.yaml``, which lies in the working folder."""
    nodes, programs = tmp_path / "nodes", tmp_path / "programs"
    programs.mkdir()
    for name, script in {"ssh": _SSH, "ray": _RAY, "pgrep": _PGREP}.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    found = Cluster(nodes, tmp_path / "shared" / "runs")
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for address in (HEAD, *WORKERS):
        home = nodes / address
        scripts = home / "paretofuse" / "scripts"
        scripts.mkdir(parents=True)
        (scripts / "mlflow_on_head.sh").write_text(_MLFLOW)
        (home / ".paretofuse.sh").write_text(
            f"export PATH={path} PYTHONPATH={ROOT} PARETOFUSE_CACHE=$HOME/cache\n"
            f"export PARETOFUSE_OPTIONS='--storage-path {found.storage} --gpus-per-trial 1'\n"
            f"export MLFLOW_ARTIFACTS_DESTINATION={tmp_path}/shared/mlflow\n"
        )
    for folder in (found.storage, tmp_path / "shared" / "mlflow" / "1"):
        folder.mkdir(parents=True)
    (tmp_path / "shared" / "mlflow" / "1" / "front.html").write_text("a page")
    monkeypatch.setenv("NODES", str(nodes))
    monkeypatch.setenv("PATH", path)
    hosts = KINDS["hosts"]
    hosts.plan(hosts.settings(head=HEAD, workers=WORKERS), ()).write()
    return found


@pytest.fixture
def rented(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster of ``cluster.yaml``, whose disks go with it; Ray finds the head."""
    aws = KINDS["aws"]
    aws.plan(aws.settings(), ()).write()
    monkeypatch.setattr("ray.autoscaler.sdk.bootstrap_config", lambda config: config)
    monkeypatch.setattr("ray.autoscaler.sdk.get_head_node_ip", lambda path: HEAD)
    return cluster
