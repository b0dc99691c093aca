"""A supernet is trained over hosts whose names stand for 127.0.1.1, as Debian and Ubuntu have it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cluster.lab import Host, Lab

_READY = "export PYTHONPATH=/shared/paretofuse RAY_USAGE_STATS_ENABLED=0 PATH=~/venv/bin:$PATH; cd /shared;"
#: A core each, so that each of the two workers is on a host of its own.
_RAY = "ray start --num-cpus=1"


@pytest.fixture(scope="module")
def head(lab: Lab) -> Host:
    """The first one of two hosts with a Ray cluster."""
    first, second = lab.boot(2, loopback_name=True)
    shutil.copytree(lab.checkout, lab.shared / "paretofuse")
    for host, how in (
        (first, "--head --port=6379 --include-dashboard=false"),
        (second, f"--address={first.address}:6379"),
    ):
        host.run(f"{_READY} {_RAY} {how} --node-ip-address={host.address}")
    return first


def test_its_workers_find_each_other(lab: Lab, head: Host, data: str) -> None:
    assert head.run("getent hosts node1").stdout.split()[0] == "127.0.1.1"
    sizes = "--supernet-epochs 1 --num-samples 3 --finalists 1 --tau-samples 0 --epochs 1"
    search = f"python paretofuse/search.py --space pmf_nas --strategy oneshot --workers 2 {sizes} {data}"
    ended = head.run(f"{_READY} {search} --address auto --name supernet", timeout=500, check=False)
    assert not ended.returncode, ended.stdout
    assert "supernet goes on after" not in ended.stdout, "no worker was started twice"
    result = json.loads((lab.shared / "runs" / "supernet" / "result.json").read_text())
    assert (result["trials"], result["failed"], result["evaluated"]) == (1, 0, 3)
