"""Addresses at which no Ray cluster is."""

from __future__ import annotations

import http.server
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from ray._private.services import get_node_ip_address
from rich.console import Console

from search.execution import address
from search.execution.address import Address
from search.execution.cluster import reach
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address, "_STARTING", 0.1)
    monkeypatch.setattr(address, "_ANSWERING", 0.5)


@contextmanager
def closed() -> Iterator[int]:
    with closing(socket.socket()) as used:
        used.bind(("", 0))
        yield used.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    with closing(socket.socket()) as used:
        used.bind(("", 0))
        used.listen()
        yield used.getsockname()[1]


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("there", "reason"),
    [(closed, "Connection refused"), (silent, "nothing answers"), (web, "what answers there is not Ray")],
)
@pytest.mark.parametrize("variable", [False, True])
def test_a_dead_address_is_said_to_be_one(there, reason, variable, monkeypatch) -> None:
    with there() as port:
        name = f"{get_node_ip_address()}:{port}"
        if variable:
            monkeypatch.setenv("RAY_ADDRESS", name)
        origin = f"RAY_ADDRESS={name}" if variable else f"--address {name}"
        heard = io.StringIO()
        console = Console(file=heard, width=200)
        with pytest.raises(UserError, match=rf"^{origin}: no Ray cluster can be joined there: {reason}$"):
            reach(None if variable else name, console)
    note = " (from the variable RAY_ADDRESS)" if variable else ""
    assert heard.getvalue() == f"joining the Ray cluster at {name}{note}\n"


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"host no-such-host\.invalid is not known"):
        Address.of("no-such-host.invalid:6379").require_answer()


@pytest.mark.parametrize("wanted", ["somewhere", "host:", ":6379", "host:x", "host:99999", "host:0", "h:-1"])
def test_what_is_no_address(wanted) -> None:
    with pytest.raises(UserError, match=f"--address {wanted}: the address must be HOST:PORT, auto or local"):
        Address.of(wanted).require_answer()


@pytest.mark.parametrize("wanted", ["ray://host:10001", "http://127.0.0.1:8265"])
def test_what_ray_has_and_a_search_cannot_use(wanted) -> None:
    with pytest.raises(UserError, match=f"--address {wanted}: .*; from another machine, `ray job submit` "):
        Address.of(wanted).require_answer()


def test_a_variable_that_finds_no_ray_can_be_unset(monkeypatch) -> None:
    def find(_: str) -> str:
        raise ConnectionError

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", find)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=auto: .*; `unset RAY_ADDRESS` to start one"):
        Address.of(None).require_answer()


def test_the_option_comes_before_the_variable(monkeypatch) -> None:
    assert Address.of(None).local
    monkeypatch.setenv("RAY_ADDRESS", "variable:1")
    assert [Address.of(wanted).text for wanted in (None, "auto", "local", "option:1")] == [
        "variable:1",
        "variable:1",
        "local",
        "option:1",
    ]


@pytest.mark.ray
def test_a_cluster_answers(ray_address) -> None:
    Address.of(ray_address).require_answer()
