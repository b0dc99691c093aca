"""Clusters of real nodes on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from search.execution.readiness.there import PACKAGES
from tests.conftest import ROOT

_SMALL = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def changed_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with a change in one file."""
    folder = tmp_path_factory.mktemp("changed")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=lambda _, names: _others_than_python(names))
    with (folder / "search" / "units.py").open("a") as file:
        print("# changed", file=file)
    return folder


def _others_than_python(names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or ("." in name and not name.endswith(".py"))]


@pytest.fixture
def start_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start and join a cluster of one node; return what adds others, with variables in their environment."""
    monkeypatch.chdir(tmp_path)  # nodes import from the driver's working folder, too
    started = []

    def start(gpus: int = 0) -> Callable[..., Any]:
        offered = {**_SMALL, "num_gpus": gpus}
        cluster = Cluster(initialize_head=True, head_node_args=offered)
        started.append(cluster)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        return lambda **variables: cluster.add_node(**offered, env_vars=variables)

    yield start
    ray.shutdown()
    for cluster in started:
        cluster.shutdown()
