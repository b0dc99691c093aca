"""``launch fetch`` brings results home; ``launch down`` leaves nothing behind, and takes nothing unseen."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import fs

from search.records.store import SearchStore
from tests.search.buckets import s3_server
from tests.search.launching.running.conftest import HEAD, WORKERS, Cluster, running

FILE = "cluster-local.yaml"
HOME = Path("fetched", "paretofuse")

pytestmark = pytest.mark.skipif(not shutil.which("rsync"), reason="needs rsync")


def test_searches_models_and_mlflow_come_home(cluster: Cluster, call) -> None:
    for name in ("first", "second"):
        cluster.search(name)
    with closing(cluster.database()):
        code, out, err = call("launch", "fetch", FILE)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["search 'first'", "search 'second'"]
    assert f"1 model, in {HOME}/runs/first" in lines[0]
    assert f"--backend-store-uri sqlite:///{HOME}/mlflow.db --artifacts-destination {HOME}/mlflow" in lines[2]
    assert lines[3].startswith("nothing would be lost; ")
    with closing(SearchStore.read(HOME / "runs" / "second")) as store:
        assert store.fact("search_id") == "second"
    assert (HOME / "runs/first/trial-000/checkpoint_000001/weights.safetensors").stat().st_size == 1000
    assert (HOME / "mlflow/1/front.html").read_text() == "a page"
    with closing(sqlite3.connect(HOME / "mlflow.db")) as copy:
        assert copy.execute("SELECT name FROM runs").fetchall() == [("first",)]


def test_before_the_first_search_there_is_nothing(cluster: Cluster, call) -> None:
    shutil.rmtree(cluster.storage.parent)
    code, out, err = call("launch", "fetch", FILE)
    assert (code, err) == (0, "")
    assert out.startswith(f"no searches in {cluster.storage}\nnothing would be lost")


@pytest.mark.slow
def test_a_running_search_is_said_and_its_store_not_torn(cluster: Cluster, call) -> None:
    folder = cluster.search("first")
    with running(folder):
        code, out, _ = call("launch", "fetch", FILE, "--to", "home")
        assert code == 0
        assert "search 'first' still runs, and would be ended" in out
        assert "nothing would be lost" not in out
        assert (Path("home") / "runs/first/front.png").exists()
        assert not (Path("home") / "runs/first/search.sqlite").exists()
        code, _, err = call("launch", "down", FILE)
        assert code == 2
        assert "the cluster was not ended" in err
    assert cluster.calls() == []
    assert "nothing would be lost" in call("launch", "fetch", FILE, "--to", "home")[1]
    assert (Path("home") / "runs/first/search.sqlite").exists()


def test_all_of_a_cluster_is_ended(cluster: Cluster, call) -> None:
    folder = cluster.search("first")
    (cluster.nodes / WORKERS[1] / "far").touch()
    with running(folder) as search:
        code, out, _ = call("launch", "down", FILE, "--yes")
        assert code == 0
        assert search.wait(10) == -15
    here = Path.home().name
    assert cluster.calls() == [
        f"{HEAD}: mlflow stop",
        f"{here}: ray down --yes {FILE}",
        *(f"{worker}: ray stop {how}" for worker in WORKERS for how in ("--grace-period 10", "--force")),
    ]
    assert "ended search 'first'; --resume goes on with it" in out
    for worker in WORKERS:
        assert f"{worker}: ended 8 processes of Ray" in out


def test_a_worker_that_is_not_reached_is_named(cluster: Cluster, call) -> None:
    shutil.rmtree(cluster.nodes / WORKERS[0])
    code, out, err = call("launch", "down", FILE, "--yes")
    assert (code, err) == (0, "")
    assert f"ubuntu@{WORKERS[0]}: cannot be reached over SSH (ssh: connect" in out
    assert "if Ray runs there, `ray stop` ends it" in out
    assert f"{WORKERS[1]}: ended 8 processes of Ray" in out


def test_ray_that_does_not_end_is_said(cluster: Cluster, call) -> None:
    (cluster.nodes / WORKERS[0] / "stuck").touch()
    code, out, err = call("launch", "down", FILE, "--yes")
    assert code == 2
    assert f"{WORKERS[0]}: 8 of 8 processes of Ray still run" in out
    assert f"Ray still runs on {WORKERS[0]}; run `ray stop --force` there" in err


def test_without_the_head_the_rest_is_ended_if_that_is_wanted(cluster: Cluster, call) -> None:
    shutil.rmtree(cluster.head)
    code, out, err = call("launch", "down", FILE)
    assert code == 2
    assert f"what is on the head is not known: ubuntu@{HEAD}: cannot be reached over SSH (ssh: connect" in out
    code, out, err = call("launch", "down", FILE, "--yes")
    assert (code, err) == (0, "")
    assert cluster.calls()[-1] == f"{WORKERS[1]}: ray stop --force"


def test_what_goes_with_rented_disks_is_fetched_first(rented: Cluster, call) -> None:
    cluster_file = "cluster.yaml"
    rented.search("first")
    with closing(rented.database()):
        code, out, _ = call("launch", "down", cluster_file)
        assert code == 2
        assert "the front of search 'first' was not fetched, and would be lost with the head's disk" in out
        assert "MLflow's database was not fetched" in out
        assert "nothing would be lost" in call("launch", "fetch", cluster_file)[1]
        code, out, _ = call("launch", "down", cluster_file)
        assert code == 0
        assert "`ray down` has ended the head and the workers" in out
    assert len(rented.calls()) == 1


@pytest.mark.slow
def test_results_in_a_bucket_come_home(rented: Cluster, call, monkeypatch) -> None:
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        text = (rented.head / ".paretofuse.sh").read_text()
        (rented.head / ".paretofuse.sh").write_text(text.replace(str(rented.storage), "s3://bucket/runs"))
        bucket, root = fs.FileSystem.from_uri("s3://bucket/runs")
        bucket.create_dir(f"{root}/first/trial-000/checkpoint_000001")
        with bucket.open_output_stream(f"{root}/first/trial-000/checkpoint_000001/weights") as file:
            file.write(b"w" * 1000)
        rented.storage = rented.head / "cache/searches/s3/bucket/runs"
        shutil.rmtree(rented.search("first") / "trial-000")
        code, out, _ = call("launch", "fetch", "cluster.yaml")
        assert code == 0
        assert "search 'first': " in out
        assert "1 model" in out
        before = (HOME / "runs/first/trial-000/checkpoint_000001/weights").stat().st_ino
        assert call("launch", "fetch", "cluster.yaml")[0] == 0
        assert (HOME / "runs/first/trial-000/checkpoint_000001/weights").stat().st_ino == before
    assert (HOME / "runs/first/front.png").read_bytes() == b"picture"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file; write the file that `ray up` was given"),
        ("a: [", "cannot be read"),
        ("a: 1", "is no file for `ray up`"),
    ],
)
def test_another_file_is_refused(call, text: str | None, said: str) -> None:
    if text is not None:
        Path("my.yaml").write_text(text)
    for command in ("fetch", "down"):
        code, _, err = call("launch", command, "my.yaml")
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
