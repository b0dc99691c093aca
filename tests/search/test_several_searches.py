"""Several searches at a time: on one cluster, in one folder, with one MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from mlflow.tracking import MlflowClient
from ray.cluster_utils import Cluster

import search.api
from search import SearchConfig, run_search
from search.records.history import TrialRecord
from search.records.opening import created_store, read_store
from search.records.place import Place
from tests.conftest import ROOT
from tests.search.on_ray import kill_family
from trainables.errors import UserError

TABLE = str(ROOT / "benchmarks" / "tables" / "pmf_nas.parquet")
REPLAY = {"space": "pmf_nas", "replay": TABLE, "target": "cpu", "sampler": "random", "epochs": 3}


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """The address of a Ray of two nodes with one logical GPU each."""
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=80 * 2**20)
    yield cluster.address
    cluster.shutdown()


def _intervals(place: Place) -> list[tuple[float, float]]:
    """When a search's trials ran for certain: from their first report to their last one."""
    trials = [TrialRecord.from_dict(name, *rest) for name, *rest in read_store(place).trials()]
    return [(trial.epochs[0]["time"], trial.epochs[-1]["time"]) for trial in trials]


def _at_once(intervals: list[tuple[float, float]]) -> int:
    return max(sum(start <= moment < end for start, end in intervals) for moment, _ in intervals)


@pytest.mark.ray
@pytest.mark.full
def test_they_share_a_cluster_and_nothing_else(two_nodes, workplace) -> None:
    options = {**REPLAY, "replay-seconds": 0.3, "num-samples": 4, "gpus-per-trial": 1}

    def start(**more: object) -> subprocess.Popen[str]:
        pairs = [
            x
            for name, value in {**options, **more, "address": two_nodes}.items()
            for x in (f"--{name}", str(value))
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "search", *pairs, "--json"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    small = {"max-concurrent": 1, "name": "mine"}
    processes = [
        start(**small),
        start(**small),
        start(**{"max-concurrent": 2}),
    ]
    try:
        ends = [(*process.communicate(timeout=240), process.returncode) for process in processes]
    finally:
        for process in processes:
            kill_family(process)

    # Of the two that are to be in one folder, one is refused with a line.
    (refused,) = (err for _, err, code in ends[:2] if code == 2)
    assert refused.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in refused
    found = [json.loads(out) for out, _, code in ends if code == 0]
    assert [(one["trials"], one["failed"]) for one in found] == [(4, 0), (4, 0)], ends
    assert [document["name"] == "mine" for document in found] == [True, False]
    assert len({document["parent_run_id"] for document in found}) == 2
    runs = MlflowClient(f"sqlite:///{workplace}/mlflow.db").search_runs(["1"], "tags.kind = 'search'")
    assert {run.info.run_id for run in runs} == {document["parent_run_id"] for document in found}

    places = [Place.of(document["name"]) for document in found]
    one, other = map(_intervals, places)
    assert _at_once(one) == 1
    assert _at_once(other) <= 2
    assert _at_once([*one, *other]) <= 2, "each has a GPU to itself"

    # Notes of workers on the nodes, and details of errors, are in folders that no two searches share.
    ray.init(address=two_nodes, log_to_driver=False)
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    ray.shutdown()
    ids = {str(read_store(place).fact("search_id")) for place in places}
    made = [path.name for path in (session / "artifacts").iterdir()]
    assert {name.rpartition("_")[2] for name in made} == ids


def test_of_one_second_they_get_different_names(workplace, monkeypatch) -> None:
    begun: list[str] = []

    def created_at_the_same_moment(place, facts, warn):
        if not begun:
            begun.append(place.name)
            with created_store(place, {**facts, "begun": True}, warn):
                pass
        return created_store(place, facts, warn)

    def stop(found, *_):
        raise UserError(f"it is {found.config.run_name}")

    monkeypatch.setattr(search.api, "created_store", created_at_the_same_moment)
    monkeypatch.setattr(search.api, "run", stop)
    with pytest.raises(UserError, match=r"^it is pmf_nas-\d{8}-\d{6}-2$") as got:
        run_search(SearchConfig(**REPLAY))
    assert str(got.value) == f"it is {begun[0]}-2"
    begun.clear()
    with pytest.raises(UserError, match="another process has just started a search there"):
        run_search(SearchConfig(**REPLAY, name="mine"))
