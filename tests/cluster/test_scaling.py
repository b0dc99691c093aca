"""The node types of the file for AWS, over hosts of the lab: workers come when they are needed, and go."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.providers import _get_default_config

from tests.cluster import pool
from tests.cluster.lab import Host, Lab, wait_for

_IDLE_MINUTES = 0.5


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[pool.Cloud]:
    hosts = {lab.host(number).address: lab.host(number) for number in (1, 2, 3)}
    cloud = pool.Cloud(
        lab.shared, lambda address: hosts[address].boot(), lambda address: hosts[address].power_off()
    )
    cloud.start()
    yield cloud
    cloud.end()


@pytest.fixture(scope="module")
def head(lab: Lab, cloud: pool.Cloud) -> Host:
    """The head of the cluster, without any worker."""
    lab.on_laptop(
        "python search.py launch aws --file aws.yaml --workers 2 --gpu-memory 8GiB "
        "--storage-path s3://lab/runs"
    )
    text = (lab.checkout / "aws.yaml").read_text().replace("s3://lab", "/shared")
    config = yaml.safe_load(text)
    shutil.copy(pool.__file__, lab.checkout / "pool.py")
    head, *workers = (lab.host(number).address for number in (1, 2, 3))
    config["provider"] = {
        "type": "external",
        "module": "pool.PoolProvider",
        "head": head,
        "workers": workers,
        "folders": ["/shared", str(lab.shared)],
    }
    config["auth"]["ssh_private_key"] = str(lab.key)
    config["idle_timeout_minutes"] = _IDLE_MINUTES
    for name, kind in config["available_node_types"].items():
        kind["node_config"] = {}  # AWS's own
        if name != config["head_node_type"]:
            kind["resources"] = {"CPU": 1, "GPU": 1}  # of books alone: replayed trials touch no device
    for name, value in _get_default_config({"type": "aws"}).items():
        config.setdefault(name, value)  # as Ray completes the file
    # The autoscaler on the head finds the provider as the laptop does.
    config["head_start_ray_commands"] = [
        f"export PYTHONPATH=$HOME/paretofuse; {command}" for command in config["head_start_ray_commands"]
    ]
    (lab.checkout / "pool.yaml").write_text(yaml.safe_dump(config, sort_keys=False, width=1000))
    lab.on_laptop(
        "ray get-auth-token --generate > /dev/null; ray up --yes pool.yaml",
        variables={"PYTHONPATH": str(lab.checkout)},
    )
    return lab.host(1)


@pytest.fixture(scope="module")
def searched(lab: Lab, cloud: pool.Cloud, head: Host) -> dict[str, Any]:
    """The result of a search; most trials that one worker had at a time are ``at_once``."""
    assert cloud.booted == [head.address]
    running = head.start(
        "python paretofuse/search.py --space pmf_nas --replay paretofuse/benchmarks/tables/pmf_nas.parquet "
        "--target cpu --replay-seconds 2 --num-samples 12 --max-concurrent 6 --name scaled"
    )
    at_once = 0
    while running.poll() is None:
        for number in (2, 3):
            if number in lab.processes:
                at_once = max(at_once, len(lab.host(number).processes("ray::ResourceTrainable")))
        time.sleep(2)
    output, _ = running.communicate()
    assert not running.returncode, output
    document = json.loads((lab.shared / "runs" / "scaled" / "result.json").read_text())
    return {**document, "at_once": at_once}


def test_workers_come_when_trials_wait(cloud: pool.Cloud, searched: dict[str, Any]):
    assert (searched["trials"], searched["failed"]) == (12, 0)
    assert len(cloud.booted) > 1


def test_trials_share_a_device(searched: dict[str, Any]):
    assert searched["at_once"] > 1


def test_idle_workers_go(lab: Lab, cloud: pool.Cloud, searched: dict[str, Any]):
    workers = cloud.booted[1:]
    wait_for(lambda: set(workers) <= set(cloud.off), 180, "idle workers to be shut down")
    assert lab.host(1).address not in cloud.off


def test_the_end_takes_the_head_too(lab: Lab, cloud: pool.Cloud, searched: dict[str, Any]):
    lab.on_laptop("ray down --yes pool.yaml", variables={"PYTHONPATH": str(lab.checkout)})
    wait_for(lambda: not lab.processes, 30, "the head to be shut down")
