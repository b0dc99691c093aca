"""A search's own Ray: who can reach it, and that nothing of it is left, however the search ends."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient

from search.execution import reaper, session
from search.execution.session import private_folder
from trainables.errors import UserError

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"
#: Longer than the path of a Unix socket may be.
LONG = "a-folder-that-a-scheduler-has-made-for-the-temporary-files-of-this-job"

#: Starts a Ray as a search does, says where it is, and keeps it until standard input ends.
HOLD = """
import json, os, sys, time
import ray
from search.execution.session import local_ray
from search.process import prepared_process

with prepared_process(), local_ray():
    @ray.remote
    class Worker:
        def work(self):
            time.sleep(1000)
        def environment(self):
            return dict(os.environ)
    worker = Worker.remote()
    usage = ray.get(worker.environment.remote()).get("RAY_USAGE_STATS_ENABLED")
    worker.work.remote()
    node = ray._private.worker._global_node
    sockets = [node._raylet_socket_name, node._plasma_store_socket_name]
    print(json.dumps({"folder": node.get_session_dir_path(), "sockets": sockets, "usage": usage}), flush=True)
    sys.stdin.read()
"""

#: Tries, as somebody else, to list, read, write and connect; says what worked.
INTRUDE = """
import json, os, socket, sys

told = json.loads(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)

def connect(path):
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(path)

tries = {"list": lambda: os.listdir(told["folder"]), "token": lambda: open(told["token"]).read(1)}
tries["write"] = lambda: open(told["folder"] + "/planted", "w")
tries["link"] = lambda: os.symlink("/etc/passwd", told["folder"] + "/logs/hang.txt")
tries |= {path: lambda path=path: connect(path) for path in told["sockets"]}
for name, what in tries.items():
    try:
        what()
        print(name)
    except PermissionError:
        pass
"""


def environment(home: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    kept = {n: v for n, v in os.environ.items() if n not in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_TMPDIR")}
    kept.pop("RAY_USAGE_STATS_ENABLED", None)
    return {**kept, "PYTHONPATH": paths, "HOME": str(home)}


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def seconds_until_gone(members: list[psutil.Process]) -> float:
    started = time.monotonic()
    psutil.wait_procs(members, timeout=60)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home that others may enter, with a token as earlier searches have left it."""
    home = Path(tempfile.mkdtemp(prefix="pf-home-"))
    home.chmod(0o755)
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("0" * 64)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def held(home) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    (home / LONG).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(home), "TMPDIR": str(home / LONG)},
    )
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told, "Ray has not started"
    yield process, {**json.loads(told), "token": str(home / ".ray" / "auth_token")}
    process.communicate()


@pytest.mark.ray
class TestLocalRay:
    """One Ray, which is killed in the end."""

    def test_it_listens_on_this_machine_only(self, held) -> None:
        members = [psutil.Process(held[0].pid), *family(held[0])]
        ports = [c.laddr.ip for m in members for c in m.net_connections("inet") if c.status == "LISTEN"]
        assert len(ports) >= 5
        addresses = [ipaddress.ip_address(ip.removeprefix("::ffff:")) for ip in ports]
        assert all(address.is_loopback for address in addresses)

    def test_nobody_else_can_open_it(self, held) -> None:
        folder, token = Path(held[1]["folder"]), Path(held[1]["token"])
        closed = next(parent for parent in folder.parents if parent.name.startswith(reaper.PREFIX))
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert stat.S_IMODE(token.stat().st_mode) == 0o600

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
    def test_another_user_can_read_and_write_nothing(self, held) -> None:
        command = [sys.executable, "-c", INTRUDE, json.dumps(held[1])]
        tried = subprocess.run(command, capture_output=True, text=True, check=True)
        assert tried.stdout == ""

    def test_it_tells_its_makers_nothing(self, held) -> None:
        assert held[1]["usage"] == "0"

    def test_all_of_it_is_gone_when_its_driver_was_killed(self, held) -> None:
        process, told = held
        members = family(process)
        assert len(members) >= 6
        process.kill()
        process.wait()
        assert seconds_until_gone(members) < 15
        assert not Path(told["folder"]).parents[1].exists()


@pytest.mark.full
@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True)]
)
def test_a_signal_ends_a_search_as_ctrl_c_does(number, to_all, workplace, empty_store) -> None:
    """Schedulers and closing terminals send it to all processes, Ray's included."""
    shutil.copy(empty_store, workplace / "mlflow.db")
    settings = {
        "space": "pmf_nas",
        "replay": TABLE,
        "target": "cpu",
        "replay-seconds": 0.3,
        "epochs": 2,
        "num-samples": 500,
        "sampler": "random",
        "name": "stopped",
        "tracking-uri": f"sqlite:///{workplace}/mlflow.db",
    }
    command = [sys.executable, "-m", "search", *(str(x) for k, v in settings.items() for x in (f"--{k}", v))]
    temporary = Path(tempfile.mkdtemp(prefix="pf-", dir="/tmp"))
    with (workplace / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**environment(workplace), "TMPDIR": str(temporary)},
        )
    deadline = time.monotonic() + 150
    while len(list((workplace / "runs" / "stopped").glob("trial-*/checkpoint_*"))) < 4:
        assert process.poll() is None, (workplace / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    members = family(process)
    (os.killpg if to_all else os.kill)(process.pid, number)
    process.wait(100)
    text = (workplace / "log").read_text()
    assert process.returncode == 128 + number, text
    assert "--resume stopped" in text
    assert "Traceback" not in text
    assert "received at time" not in text, "Ray's core ended the process"
    assert seconds_until_gone(members) < 15
    assert not list(temporary.glob(f"{reaper.PREFIX}*"))
    client = MlflowClient(settings["tracking-uri"])
    parents = client.search_runs(["1"], "tags.`mlflow.runName` = 'stopped' and tags.kind = 'search'")
    assert [parent.info.status for parent in parents] == ["KILLED"]
    shutil.rmtree(temporary)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_is_made_where_the_user_wants_temporary_files(variable, monkeypatch) -> None:
    with tempfile.TemporaryDirectory(prefix="pf-", dir="/tmp") as wanted:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setenv(variable, wanted)
        monkeypatch.setattr(tempfile, "tempdir", None)
        folder = private_folder()
        assert folder.parent == Path(wanted)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_long_path_is_replaced_by_a_short_one(tmp_path, monkeypatch) -> None:
    long = tmp_path / LONG
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    folder = private_folder()
    assert folder.parent in (Path("/tmp"), Path("/var/tmp"))
    folder.rmdir()
    monkeypatch.setattr(session, "_LONGEST_SOCKET", 80)
    with pytest.raises(UserError, match=rf"TMPDIR {long}: Ray needs a folder .* set RAY_TMPDIR to one"):
        private_folder()


def test_what_killed_searches_have_left_is_removed(tmp_path) -> None:
    """What is in use stays."""
    folders = [tmp_path / f"{reaper.PREFIX}{name}" for name in ("abandoned", "used")]
    for folder in folders:
        (folder / "r").mkdir(parents=True)
    (folders[0] / reaper.LOCK).touch()
    command = [sys.executable, reaper.__file__, str(folders[1]), str(os.getpid())]
    user = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline() == "ready\n"
    reaper.remove_abandoned(tmp_path)
    assert folders[1].exists()
    user.communicate()
    assert not any(folder.exists() for folder in folders)
