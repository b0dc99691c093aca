"""Searches that join a cluster: told nothing, with the wrong token, before a GPU is up, and as a job."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.lab import ROOT, Host, Lab, wait_for

#: What the files that start a cluster say to the shells of its head, and to Ray there.
ENVIRONMENT = """
export PATH=$HOME/venv/bin:$PATH RAY_AUTH_MODE=token RAY_JOB_STOP_WAIT_TIME_S=60
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export PARETOFUSE_OPTIONS="--storage-path /shared/runs --gpus-per-trial 1 --num-samples 2 --epochs 2
  --replay /shared/table.parquet --target cpu --no-probe"
"""
LITERAL = "python ~/paretofuse/search.py --space pmf_nas"


@pytest.fixture(scope="module")
def head(lab: Lab) -> Host:
    """A head with MLflow and a Ray that demands a token, without CPUs for trials."""
    (head,) = lab.boot(1)
    shutil.copy(ROOT / "benchmarks" / "tables" / "pmf_nas.parquet", lab.shared / "table.parquet")
    shutil.copytree(lab.checkout, lab.shared / "program")
    head.run(f"cp -r /shared/program ~/paretofuse; cat >~/.profile <<'END'\n{ENVIRONMENT}END\n")
    head.run("ray get-auth-token --generate >/dev/null; install -m 644 ~/.ray/auth_token /shared/token")
    head.run(
        "setsid mlflow server --backend-store-uri sqlite:///$HOME/mlflow.db >~/mlflow.log 2>&1 </dev/null &"
    )
    head.run("ray start --head --port=6379 --num-cpus=0 --num-gpus=0", timeout=120)
    head.run("echo 'export RAY_ADDRESS=auto' >>~/.profile")
    wait_for(
        lambda: not head.run("curl -sf http://127.0.0.1:5000/health", check=False).returncode, 90, "MLflow"
    )
    return head


@pytest.fixture(scope="module")
def worker(lab: Lab, head: Host) -> Host:
    """A node of the same cluster with a GPU in Ray's books."""
    worker = lab.host(2)
    worker.boot()
    worker.run(f"cp -r /shared/program ~/paretofuse; cat >~/.profile <<'END'\n{ENVIRONMENT}END\n")
    worker.run("mkdir ~/.ray; cp /shared/token ~/.ray/auth_token")
    worker.run(f"ray start --address={head.address}:6379 --num-cpus=2 --num-gpus=1", timeout=120)
    return worker


@pytest.fixture
def dashboard(lab: Lab, head: Host) -> Iterator[str]:
    """The address of the cluster's dashboard on the laptop, at the near end of a tunnel."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ssh = ["ssh", "-i", str(lab.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    tunnel = subprocess.Popen([*ssh, "-N", "-L", f"{port}:127.0.0.1:8265", f"ubuntu@{head.address}"])

    def answers() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, 30, "the tunnel")
    (lab.laptop / ".ray").mkdir(exist_ok=True)
    shutil.copy(lab.shared / "token", lab.laptop / ".ray" / "auth_token")
    yield f"http://127.0.0.1:{port}"
    tunnel.terminate()
    tunnel.wait()


@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("mv ~/.ray/auth_token ~/away", "demands a token, and there is none here: copy ~/.ray/auth_token"),
        ("mv ~/.ray/auth_token ~/away; echo 0123 >~/.ray/auth_token", "does not accept the token of ~/.ray/"),
    ],
    ids=["missing", "wrong"],
)
def test_another_token_is_said_in_one_line(before: str, line: str, head: Host):
    head.run(before)
    done = head.run(f"timeout 20 {LITERAL}", check=False)
    head.run("mv ~/away ~/.ray/auth_token")
    assert done.returncode == 2
    (error,) = [text for text in done.stdout.splitlines() if text.startswith("error: ")]
    assert f"RAY_ADDRESS=auto: the Ray cluster there {line}" in error
    assert len(done.stdout.splitlines()) == 3, done.stdout


def test_the_literal_use(lab: Lab, head: Host, worker: Host):
    said = head.run(f"cd && {LITERAL} --name literal", timeout=240).stdout
    (told,) = [
        line for line in said.splitlines() if line.startswith("from the variable PARETOFUSE_OPTIONS: ")
    ]
    assert "--storage-path /shared/runs" in told
    assert "--gpus-per-trial 1" in told
    assert f"joining the Ray cluster at {head.address}:6379 (from the variable RAY_ADDRESS)" in said
    assert "1 GPU a trial" in said
    assert "http://127.0.0.1:5000" in said
    result = json.loads((lab.shared / "runs" / "literal" / "result.json").read_text())
    assert (result["trials"], result["failed"]) == (2, 0)


def test_a_search_waits_for_a_gpu(lab: Lab, head: Host, worker: Host):
    worker.run("ray stop")
    search = head.start(f"cd && {LITERAL} --name waits")
    assert search.stdout is not None
    lines = iter(search.stdout.readline, "")
    waits = next(line for line in lines if line.startswith("no node has room"))
    assert "a trial asks for 1 CPU and 1 GPU, and those here have at most 0 CPU and 0 GPU" in waits
    worker.run(f"ray start --address={head.address}:6379 --num-cpus=2 --num-gpus=1", timeout=120)
    rest = search.communicate(timeout=240)[0]
    assert search.returncode == 0, rest


def test_a_search_is_submitted_stopped_and_resumed(lab: Lab, head: Host, worker: Host, dashboard: str):
    def job(command: str) -> str:
        variables = {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": dashboard}
        return lab.on_laptop(f"ray job {command}", variables=variables, check=False).stdout

    search = "python paretofuse/search.py"
    job(f"submit --no-wait --submission-id long -- {search} --space pmf_nas --name job --replay-seconds 8")
    folder = lab.shared / "runs" / "job"
    wait_for(lambda: list(folder.glob("trial-*/checkpoint_*")), 180, "the job's first epoch")
    assert "was stopped" in job("stop long")
    assert "--resume /shared/runs/job" in job("logs long")
    said = job(f"submit -- {search} --resume job --replay-seconds 0")
    assert "succeeded" in said, said
    result = json.loads((folder / "result.json").read_text())
    assert (result["trials"], result["failed"]) == (2, 0)
