"""Placement on a real Ray cluster, of logical GPUs."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster

from search.nodes import find_nodes
from search.placement import place

pytestmark = pytest.mark.ray

GIB = 2**30
#: Bytes in GiB that each trial needs; those above 24 fit the large device only.
NEEDED = [3, 40, 3, 20, 30, 22, 22]
#: More than there are devices.
AT_ONCE = 4


class Recorder(tune.Trainable):
    """Notes where and when it ran."""

    def setup(self, config: dict[str, Any]) -> None:
        self.config = config["trial"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config["trial"]
        return True

    def step(self) -> dict[str, Any]:
        start, folder = time.time(), Path(self.config["folder"])
        (folder / f"{self.trial_id}.started").touch()
        # Together, or starting processes slowly would hide that they can be.
        while len(list(folder.glob("*.started"))) < AT_ONCE and time.time() < start + 30:
            time.sleep(0.05)
        context = ray.get_runtime_context()
        record = {
            "needed": self.config["needed"],
            "device": [context.get_node_id(), *ray.get_gpu_ids()],
            "share": context.get_assigned_resources()["GPU"],
            "start": start,
            "end": time.time(),
        }
        (folder / f"{self.trial_id}.json").write_text(json.dumps(record))
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: str) -> None:
        pass


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A node with two GPUs of 24 GiB and one with a GPU of 80 GiB, by what their nvidia-smi says."""
    tools = tmp_path_factory.mktemp("tools")
    cluster = Cluster()
    for kind, gpus, mib, capability in (("A10G", 2, 24 * 1024, 8.6), ("A100", 1, 80 * 1024, 8.0)):
        tool = tools / kind / "nvidia-smi"
        tool.parent.mkdir()
        tool.write_text("#!/bin/sh\n" + f"echo '{mib + 300}, 300, [N/A], {capability}'\n" * gpus)
        tool.chmod(0o755)
        cluster.add_node(
            num_cpus=2,
            num_gpus=gpus,
            labels={"ray.io/accelerator-type": kind},  # Ray sets it where there is a real GPU
            env_vars={"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"},
            include_dashboard=False,
            object_store_memory=80 * 2**20,
        )
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.full
def test_trials_share_devices_by_the_memory_they_need(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    nodes = find_nodes()
    assert sorted((n.gpus, n.accelerator, n.gpu_memory, n.capability) for n in nodes) == [
        (1, "A100", 80 * GIB, 8.0),
        (2, "A10G", 24 * GIB, 8.6),
    ]
    assert {node.gpu_memory for node in find_nodes(gpu_memory=GIB)} == {GIB}

    placement = place(nodes, len(NEEDED))
    folder = tmp_path / "records"
    folder.mkdir()
    configs = [{"needed": needed * GIB, "folder": str(folder)} for needed in NEEDED]
    tune.Tuner(
        tune.with_resources(Recorder, lambda config: placement.of(config["trial"]["needed"]).request()),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=placement.concurrent),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "runs"), verbose=0),
    ).fit()

    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(records) == len(NEEDED)
    small = next(n["NodeID"] for n in ray.nodes() if n["Resources"]["GPU"] == 2)
    devices = defaultdict(list)
    for record in records:
        assert record["share"] == placement.of(record["needed"]).resources["GPU"]
        size = 24 if record["device"][0] == small else 80
        assert record["needed"] <= record["share"] * size * GIB
        devices[tuple(record["device"])].append(record)
    at_once = [
        [other for other in run if other["start"] <= record["start"] < other["end"]]
        for run in devices.values()
        for record in run
    ]
    assert max(sum(record["share"] for record in running) for running in at_once) <= 1
    assert max(len(running) for running in at_once) > 1


def test_nothing_runs_on_a_machine_that_is_excluded(cluster: None) -> None:
    large, small = sorted(find_nodes(), key=lambda node: node.gpus)
    share = place([large], 10, excluded=[small]).of(GIB)
    where = ray.remote(lambda: ray.get_runtime_context().get_node_id()).options(**share.options())
    assert set(ray.get([where.remote() for _ in range(8)])) == {large.node_id}
    group = share.request().to_placement_group()
    ray.get(group.ready())
    assert set(ray.util.placement_group_table(group)["bundles_to_node_id"].values()) == {large.node_id}
