"""The cluster file for one's own machines, from ``ray up`` to the end; one machine is lost on the way."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.cluster.lab import Host, Lab, wait_for

_EPOCHS = 30


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    return lab.boot(3)


@pytest.fixture(scope="module")
def cluster(lab: Lab, hosts: list[Host]) -> str:
    """The name of the cluster file; head and workers are up."""
    head, *workers = (host.address for host in hosts)
    lab.on_laptop(
        f"python search.py launch hosts --file lab.yaml --head {head} --workers {','.join(workers)} "
        f"--key {lab.key} --submit"
    )
    joined = f"\n {len(hosts)} local.cluster.node\n"
    wait_for(lambda: joined in hosts[0].run("ray status", check=False).stdout, 600, "the workers to join")
    return "lab.yaml"


@pytest.fixture(scope="module")
def result(lab: Lab, hosts: list[Host], cluster: str, data: str) -> dict[str, Any]:
    """What a search writes at its end; a machine was lost while it had trials."""
    search = (
        f"python paretofuse/search.py --space pmf_nas {data} --num-samples 4 --epochs {_EPOCHS} --name lost"
    )
    running = hosts[0].start(search)
    runs = lab.shared / "runs" / "lost"
    wait_for(lambda: len(list(runs.glob("trial-*/checkpoint_*"))) >= 4, 600, "trials to run")
    hosts[2].power_off()
    output, _ = running.communicate(timeout=900)
    assert not running.returncode, output
    print(output)
    return json.loads((runs / "result.json").read_text())


def test_nothing_is_lost_with_a_machine(result: dict[str, Any]):
    assert (result["trials"], result["failed"]) == (4, 0)
    assert result["front"]


def test_results_come_home(lab: Lab, cluster: str, result: dict[str, Any]):
    said = lab.on_laptop(f"python search.py launch fetch {cluster}").stdout
    assert "nothing would be lost" in said
    home = lab.checkout / "fetched" / "paretofuse"
    assert json.loads((home / "runs" / "lost" / "result.json").read_text()) == result
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        assert ("lost",) in database.execute("SELECT name FROM runs").fetchall()
    assert list((home / "mlflow").rglob("front.json"))


def test_nothing_is_left(lab: Lab, hosts: list[Host], cluster: str, result: dict[str, Any]):
    lab.on_laptop(f"python search.py launch down --yes {cluster}")
    for host in hosts[:2]:
        assert not host.processes("ray", "mlflow")
