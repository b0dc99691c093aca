"""Whole searches whose trials are at a remote address, on a stand-in for S3."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from pyarrow import fs
from ray.cluster_utils import Cluster
from rich.console import Console

from search import SearchConfig, resume_search, run_search
from search.records.history import TrialRecord
from search.records.opening import holds_search, read_store
from search.records.place import Place
from search.records.status import Status
from search.records.store import SearchStore
from tests.conftest import ROOT
from tests.search.buckets import EVERYTHING, READING, s3_server, user_of, users_checked
from tests.search.on_ray import kill_family
from trainables.errors import UserError

ADDRESS = "s3://bucket/runs/lost"
REPLAY: dict[str, Any] = {
    "space": "pmf_nas",
    "replay": str(ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"),
    "target": "cpu",
    "epochs": 1,
    "num_samples": 2,
    "sampler": "random",
    "name": "mine",
}
#: A machine on which the secret is missing or wrong. An empty one would be looked for at AWS, for seconds.
STRANGER = {"AWS_ACCESS_KEY_ID": "unknown", "AWS_SECRET_ACCESS_KEY": "unknown"}


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """The environments of two machines, which share nothing but a bucket."""
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "none"))
        yield [{**os.environ, "PARETOFUSE_CACHE": str(tmp_path / name)} for name in ("first", "second")]


@pytest.fixture
def users(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, str]]]:
    """The environments of users of a bucket that refuses what they may not do; this process's may write."""
    with s3_server() as server:
        found = {"writer": user_of(server, EVERYTHING), "reader": user_of(server, READING)}
        for name, value in found["writer"].items():
            monkeypatch.setenv(name, value)
        with users_checked():
            yield {**found, "stranger": STRANGER}


@pytest.mark.parametrize(
    ("bucket", "user", "reason"),
    [
        ("no-such-bucket", "writer", "[Bb]ucket"),
        ("bucket", "reader", "ACCESS_DENIED"),
        ("bucket", "stranger", "ACCESS_DENIED"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused_before_ray_starts(
    users, workplace, monkeypatch, bucket, user, reason
) -> None:
    monkeypatch.setattr("search.running.cluster", None)
    for name, value in users[user].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^s3://{bucket}/runs/mine: cannot be used .*{reason}") as got:
        run_search(SearchConfig(**REPLAY, storage_path=f"s3://{bucket}/runs"))
    assert "\n" not in str(got.value)
    assert not list(workplace.iterdir()), "nothing is left behind"


@pytest.mark.ray
@pytest.mark.full
def test_nodes_share_a_bucket_and_one_that_may_not_use_it_is_named(users, workplace, monkeypatch) -> None:
    cluster = Cluster()
    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    try:
        for _ in range(2):
            cluster.add_node(**node)
        where = {"storage_path": "s3://bucket/runs", "address": cluster.address}
        told = io.StringIO()
        first = run_search(SearchConfig(**REPLAY, **where), console=Console(file=told, width=200))
        assert first.trials == 2
        assert "2 nodes: same code and storage" in told.getvalue()

        # Another machine goes on: it has a cache of its own.
        monkeypatch.setenv("PARETOFUSE_CACHE", str(workplace / "another"))
        again = resume_search("s3://bucket/runs/mine", num_samples="+1")
        assert (again.trials, again.parent_run_id) == (3, first.parent_run_id)

        cluster.add_node(**node, env_vars=STRANGER)
        told = io.StringIO()
        with pytest.raises(UserError, match="1 of 3 nodes cannot run trials"):
            run_search(
                SearchConfig(**{**REPLAY, "name": "other"}, **where), console=Console(file=told, width=200)
            )
        assert "ACCESS_KEY" in told.getvalue() or "ACCESS_DENIED" in told.getvalue()
        assert not holds_search(Place.of("s3://bucket/runs/other"))
        filesystem, path = fs.FileSystem.from_uri("s3://bucket/runs/other")
        found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
        assert not [info.path for info in found if info.is_file], "nothing is left behind"
    finally:
        cluster.shutdown()


def _trials() -> dict[str, TrialRecord]:
    return {
        name: TrialRecord.from_dict(name, *rest) for name, *rest in read_store(Place.of(ADDRESS)).trials()
    }


def _wait_for_epochs(process: subprocess.Popen[str], count: int) -> None:
    """Wait until the copy of the store that lies in the bucket knows so many epochs."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        with suppress(UserError):  # nothing was copied yet
            if sum(len(record.epochs) for record in _trials().values()) >= count:
                return
        time.sleep(0.2)
    raise AssertionError("the search does not come on")


@pytest.mark.ray
@pytest.mark.full
def test_another_machine_goes_on_after_the_first_is_lost(machines, tmp_path, tiny_encoders, squares) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings: dict[str, Any] = {
        "space": "pmf_nas",
        "dataset": squares,
        "text-encoder": tiny_encoders["bert"],
        "image-encoder": tiny_encoders["vit"],
        "image-size": 32,
        "batch-size": 8,
        "num-samples": 6,
        "epochs": 12,
        "sampler": "random",
        "tracking-uri": uri,
    }
    pairs = [x for name, value in settings.items() for x in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "search"]

    def start(environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *more],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    where = ["--storage-path", "s3://bucket/runs", "--name", "lost"]
    process = start(machines[0], *pairs, *where)
    try:
        _wait_for_epochs(process, 10)
    finally:
        assert kill_family(process) == []
    before = _trials()
    running = [record for record in before.values() if record.status is Status.RUNNING]
    assert any(record.checkpoint for record in running)

    again = subprocess.run(
        [*command, "--resume", ADDRESS, "--json"],
        env=machines[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert again.returncode == 0, again.stderr
    document, after = json.loads(again.stdout), _trials()
    assert document["trials"] == 6
    for name, record in before.items():
        assert after[name].config == record.config
        assert after[name].epochs[: len(record.epochs)] == record.epochs
    assert not any(record.failures for record in after.values()), "each checkpoint was found in the bucket"
    assert all(member["test_accuracy"] is not None for member in document["front"])
    assert not SearchStore.id_at(tmp_path / "runs" / "lost"), "nothing is written to the default folder"
    client = MlflowClient(uri)
    runs = client.search_runs(["1"], "tags.kind = 'search'")
    assert [run.info.run_id for run in runs] == [document["parent_run_id"]]
