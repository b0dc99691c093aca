"""The job for Slurm: what it asks for, and what it does on its nodes, with stand-ins for Slurm and Ray."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.launching.slurm import SlurmSettings, slurm
from trainables.errors import UserError

SEARCH = ("--space", "pmf_nas", "--dataset", "my data.csv")
#: Slurm starts the step on each node: here there is one. Ray runs its command on the first node.
_SRUN = 'while [ "$1" != bash ]; do echo "$1" >>srun; shift; done; exec "$@"'
_RAY = 'while [ "$1" != -- ]; do echo "$1" >>ray; shift; done; shift; exec "$@"'
#: The search says how it was started, and ends when it is told.
_PYTHON = f"""
case $1 in
    */search.py) ;;
    *) exec {sys.executable} "$@" ;;
esac
printf '%s\\n' "$@" >search
env >environment
stat -c %a "$RAY_AUTH_TOKEN_PATH" "$RAY_TMPDIR" >modes
[ -e wait ] || exit 3
trap 'echo told; exit 143' TERM
touch waits
while :; do sleep 0.05; done
"""


def _script(search: tuple[str, ...] = SEARCH, **settings: object) -> str:
    plan = slurm(SlurmSettings(**settings), search)
    (file,) = plan.files
    assert plan.commands == (f"sbatch {file}",)
    return plan.files[file]


def _asked(script: str) -> dict[str, str]:
    """Return what a script asks Slurm for."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_it_asks_for_what_was_said() -> None:
    asked = _asked(
        _script(
            name="mine",
            nodes=3,
            gpus=4,
            gpu_type="a100",
            cpus=8,
            time=93600,
            partition="gpu",
            account="lab",
        )
    )
    wanted = {
        "job-name": "mine",
        "nodes": "3",
        "ntasks-per-node": "1",
        "gres": "gpu:a100:4",
        "mincpus": "8",
        "time": "1-02:00:00",
        "partition": "gpu",
        "account": "lab",
        "chdir": shlex.quote(os.getcwd()),
    }
    assert wanted.items() <= asked.items()
    assert {"exclusive", "requeue", "signal", "dependency"} <= asked.keys()


def test_it_does_not_ask_for_what_was_not_said() -> None:
    assert not {"gres", "mincpus", "partition", "account"} & _asked(_script(gpus=0)).keys()


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts a job of one node, in a folder with nothing but the stand-ins."""
    folder = tmp_path / "my folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    programs = {
        "bin/srun": _SRUN,
        "bin/scontrol": "hostname",
        "venv/bin/ray": _RAY,
        "venv/bin/python": _PYTHON,
    }
    for name, text in programs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    variables = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NAME": "mine", "SLURM_JOB_NUM_NODES": "1"}
    environment = {**os.environ, **variables, "SLURM_JOB_NODELIST": "node1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"

    def start(search: tuple[str, ...] = SEARCH, **settings: object) -> subprocess.Popen[bytes]:
        Path("job").write_text(_script(search, venv="venv", **settings))
        return subprocess.Popen(["bash", "job"], env=environment)

    return start


def _log() -> str:
    return Path(f"mine-{os.getpid()}.log").read_text()


def test_it_starts_the_search_and_ends_with_its_exit_code(job) -> None:
    assert job(setup=("export MINE='1 2'",)).wait(30) == 3
    started = Path("search").read_text().splitlines()[1:]
    assert started == ["--name", "paretofuse", *SEARCH]
    environment = dict(line.split("=", 1) for line in Path("environment").read_text().splitlines())
    assert environment["MINE"] == "1 2"
    assert shlex.split(environment["PARETOFUSE_OPTIONS"])[:2] == [
        "--storage-path",
        str(Path("runs").resolve()),
    ]
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{Path('runs').resolve()}/paretofuse.mlflow.db"
    ray = Path("ray").read_text().splitlines()
    assert ray[ray.index("--address") + 1] == environment["RAY_ADDRESS"]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert Path("modes").read_text().split() == ["600", "700"]
    # nothing of it is left
    assert not Path(environment["RAY_AUTH_TOKEN_PATH"]).exists()
    assert not Path(environment["RAY_TMPDIR"]).exists()


def test_it_resumes_a_search_that_is_there(job) -> None:
    place = Path("runs/first")
    place.mkdir(parents=True)
    (place / "search.sqlite").touch()
    assert job((*SEARCH, "--name", "first")).wait(30) == 3
    assert Path("search").read_text().splitlines()[1:] == ["--resume", str(place.resolve())]


def test_told_to_end_it_ends_the_search(job) -> None:
    Path("wait").touch()
    process = job()
    for _ in range(300):
        if Path("waits").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert _log() == "told\n"


@pytest.mark.parametrize(
    ("search", "settings", "message"),
    [
        (("--resume", "first"), {}, "--resume: the job resumes"),
        ((*SEARCH, "--storage-path=s3://b/runs"), {}, "--storage-path s3://b/runs: must be a folder"),
        (SEARCH, {"partition": "a b"}, "--partition 'a b': must be a name"),
        (SEARCH, {"account": "a\nb"}, "--account"),
        (SEARCH, {"setup": ("a", "b\nc")}, "--setup"),
    ],
)
def test_what_cannot_be_is_refused(search, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        _script(search, **settings)
