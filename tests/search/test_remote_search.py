"""Whole searches whose trials are at a remote address, on a stand-in for S3."""

from __future__ import annotations

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

from search.records.history import TrialRecord
from search.records.opening import read_store
from search.records.place import Place
from search.records.status import Status
from search.records.store import SearchStore
from tests.search.buckets import s3_server
from tests.search.on_ray import kill_family
from trainables.errors import UserError

ADDRESS = "s3://bucket/runs/lost"


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """The environments of two machines, which share nothing but a bucket."""
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "none"))
        yield [{**os.environ, "PARETOFUSE_CACHE": str(tmp_path / name)} for name in ("first", "second")]


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
