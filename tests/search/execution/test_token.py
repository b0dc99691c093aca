"""The secret of a cluster: missing, wrong, right, and one that the cluster does not want."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._private.services import get_node_ip_address
from ray._raylet import AuthenticationTokenLoader, Config

from search.execution.address import Address
from search.execution.cluster import cluster
from search.execution.session import local_ray
from tests.search.on_ray import kill_family
from trainables.errors import UserError

pytestmark = pytest.mark.ray
RIGHT, WRONG = "1" * 64, "2" * 64
COPY = r"copy ~/\.ray/auth_token from the cluster's head to this machine"
EXPORT = "`export RAY_AUTH_MODE=token`"


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a Ray that demands a token."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    ray_command = str(Path(sys.executable).with_name("ray"))
    options = ["--head", "--block", "--include-dashboard=false", "--num-cpus=0", f"--port={port}"]
    with tempfile.TemporaryDirectory(prefix="pf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [ray_command, "start", *options, f"--temp-dir={folder}", "--object-store-memory=80000000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": RIGHT},
        )
        yield f"{get_node_ip_address()}:{port}"
        kill_family(process)


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch) -> Iterator[None]:
    """A process that has no token, and knows of none."""
    for variable in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(variable, "")  # so that it is restored
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    monkeypatch.undo()
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


def write_token(home: Path, token: str) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(token)


@pytest.mark.parametrize(
    ("token", "mode", "line"),
    [
        (None, None, rf"demands a token, and there is none here: {COPY} and {EXPORT};"),
        (None, "token", rf"demands a token, and there is none here: {COPY} and"),
        (RIGHT, None, rf"demands a token: {EXPORT} lets this program show it that of ~/\.ray/auth_token$"),
        (WRONG, "token", rf"does not accept the token of ~/\.ray/auth_token: {COPY}$"),
    ],
)
def test_a_cluster_with_a_token(token, mode, line, guarded, tmp_path, monkeypatch, capfd) -> None:
    if token:
        write_token(tmp_path, token)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(UserError, match=f"^--address {guarded}: the Ray cluster there {line}"):
        Address.of(guarded).require_answer()
    assert capfd.readouterr() == ("", ""), "Ray's core says something, too"


def test_a_wrong_variable_is_in_the_way_of_the_file(guarded, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", WRONG)
    line = rf"of the variable RAY_AUTH_TOKEN: {COPY} and `unset RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH`"
    with pytest.raises(UserError, match=line):
        Address.of(guarded).require_answer()


def test_the_right_token(guarded, tmp_path, monkeypatch) -> None:
    write_token(tmp_path, RIGHT)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    Address.of(guarded).require_answer()


def test_the_cluster_on_this_machine_gets_the_token_of_this_machine(guarded, tmp_path, monkeypatch) -> None:
    write_token(tmp_path, RIGHT)
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda _: guarded)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    Address.of(None).require_answer()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_cluster_without_a_token_cannot_answer_one(ray_address, tmp_path, monkeypatch) -> None:
    write_token(tmp_path, RIGHT)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(
        UserError, match=rf"{ray_address}: the Ray cluster there has no token, .* `unset RAY_"
    ):
        Address.of(ray_address).require_answer()


def test_a_token_of_other_clusters_is_in_nobodys_way(ray_address, tmp_path) -> None:
    """A search's own Ray leaves one behind."""
    write_token(tmp_path, RIGHT)

    class Worker:
        def work(self) -> int:
            return 1

    with cluster(ray_address):
        assert ray.get(ray.remote(Worker).remote().work.remote(), timeout=60) == 1


@pytest.mark.parametrize("make", [lambda path: None, Path.touch])
def test_a_variable_that_leads_nowhere(make, tmp_path, monkeypatch) -> None:
    path = tmp_path / "token"
    make(path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with (
        pytest.raises(UserError, match=f"^RAY_AUTH_TOKEN_PATH={path}: cannot be read, or is empty$"),
        local_ray(),
    ):
        pass
