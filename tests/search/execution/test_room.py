"""Searches that wait say what for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search import SearchConfig
from search.execution import room
from search.execution.room import Room, Waiting, idle_gpus, lack, startable_gpus
from search.nodes import KIND, NODE_ID, Node
from search.placement import Share

ASKED = Share({"CPU": 2, "GPU": 0.5}, {}, 0.5, None, 2)


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(room.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def nodes(monkeypatch) -> list[dict[str, Any]]:
    """A head without devices, and what is added to it. In use is all that a node has of ``free`` less."""
    found = [{"NodeID": "head", "Alive": True, "Resources": {"CPU": 0.0}, "Labels": {}}]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    monkeypatch.setattr(
        room,
        "available_resources_per_node",
        lambda: {node["NodeID"]: node.get("free", node["Resources"]) for node in found},
    )
    return found


def worker(**more: Any) -> dict[str, Any]:
    resources = {"CPU": 4.0, "GPU": 1.0}
    return {"NodeID": "worker", "Alive": True, "Resources": resources, "Labels": {}, **more}


def test_it_waits_for_a_node_and_then_for_other_searches(nodes, clock) -> None:
    said: list[str] = []
    waiting = Waiting(said.append)
    trials = [SimpleNamespace(status=status, config={"share": ASKED}) for status in ("PENDING", "TERMINATED")]

    def lines(seconds: int) -> list[str]:
        said.clear()
        for _ in range(seconds):
            clock.now += 1
            waiting.on_step_begin(0, trials)
        return list(said)

    assert lines(9) == []
    (line,) = lines(100)
    assert line.startswith(
        "no node has room: a trial asks for 2 CPU and 0.5 GPU, and those here have at most 0 "
    )
    nodes.append(worker(free={"CPU": 1.0, "GPU": 1.0}))
    (line,) = lines(100)
    assert line.endswith("and those with as much are in use; waiting for them")
    trials[0].status = "RUNNING"
    assert lines(100) == []


def test_of_what_may_run_nothing_is_said_while_it_could(nodes, clock) -> None:
    nodes.append(worker(free={}))
    said: list[str] = []
    patient = Room(said.append, "the probe", may_run=True)
    for _ in range(100):
        clock.now += 5
        patient.wanted(ASKED)
    assert not said


@pytest.mark.parametrize(
    ("labels", "selectors", "room_for_it"),
    [
        ({KIND: "A10G"}, {KIND: "in(A100,A10G)"}, True),
        ({KIND: "T4"}, {KIND: "in(A100,A10G)"}, False),
        ({}, {KIND: "in(A100)"}, False),
        ({NODE_ID: "worker"}, {NODE_ID: "!in(head,worker)"}, False),
        ({NODE_ID: "worker"}, {NODE_ID: "!in(head)"}, True),
    ],
)
def test_nodes_that_must_not_be_used_have_no_room(labels, selectors, room_for_it, nodes) -> None:
    nodes.append(worker(Labels=labels))
    share = Share(ASKED.resources, selectors, 0.5, None, 2)
    assert (lack(share, "a trial", busy=True) is None) == room_for_it


@pytest.mark.ray
def test_what_a_real_cluster_has(ray_address) -> None:
    ray.init(address=ray_address, log_to_driver=False, logging_level="ERROR")
    try:
        assert lack(Share({"CPU": 2}, {}, 1, None, 2), "a trial", busy=True) is None
        assert "at most 2 CPU and 0 GPU" in str(lack(ASKED, "a trial", busy=True))
    finally:
        ray.shutdown()


DESCRIPTION = """
available_node_types:
  head: {resources: {CPU: 0}, node_config: {}}
  gpu_spot: {resources: {CPU: 4, GPU: 1}, max_workers: 4}
  gpu_none: {resources: {CPU: 4, GPU: 1}, max_workers: 0}
  cpus: {max_workers: 4}
"""


@pytest.mark.parametrize(
    ("text", "types"),
    [(DESCRIPTION, ["gpu_spot"]), ("provider: {type: local}", []), ("[", []), ("", []), (None, [])],
)
def test_gpus_that_could_be_started(text, types, tmp_path) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"
    if text is not None:
        path.write_text(text)
    assert startable_gpus(path) == types


@pytest.mark.parametrize(
    ("given", "gpus", "said"),
    [
        ({"address": "head:6379"}, 0, True),
        ({"address": "head:6379"}, 1, False),
        ({"address": "head:6379", "gpus_per_trial": 0}, 0, False),
        ({"address": "head:6379", "gpu_memory": 2**30}, 0, False),
        ({"address": "local"}, 0, False),
    ],
)
def test_gpus_that_stay_idle_are_said(given, gpus, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, "ray_bootstrap_config.yaml").write_text(DESCRIPTION)
    line = idle_gpus(SearchConfig(space="pmf_nas", **given), [Node(4, gpus=gpus)])
    assert (line is not None) == said
    assert line is None or "--gpus-per-trial 1 makes Ray start gpu_spot" in line
