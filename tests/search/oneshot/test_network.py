"""Workers talk over the interface of their node's address, whatever the machine's name resolves to."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import psutil
import pytest
import ray

from search.oneshot.network import NodeNetwork, choose_interface, interface_of

#: As psutil lists them.
INTERFACES = {
    "lo": ["127.0.0.1", "::1"],
    "eth0": ["10.0.0.2", "fe80::1%eth0", "02:00:00:00:00:01"],
    "docker0": ["172.17.0.1"],
}


@pytest.fixture(autouse=True)
def _interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: [SimpleNamespace(address=a) for a in of_it] for name, of_it in INTERFACES.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(variable, "")  # so that what a test leaves is removed after it
        monkeypatch.delenv(variable)


def _chosen(monkeypatch: pytest.MonkeyPatch, address: str) -> tuple[str | None, str | None]:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    choose_interface()
    return os.environ.get("GLOO_SOCKET_IFNAME"), os.environ.get("NCCL_SOCKET_IFNAME")


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.0.0.2", "eth0"), ("fe80::1", "eth0"), ("127.0.0.1", "lo"), ("::1", "lo"), ("192.0.2.7", None)],
)
def test_the_interface_that_has_an_address(address: str, name: str | None) -> None:
    assert interface_of(address) == name


def test_it_is_told_to_gloo_and_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _chosen(monkeypatch, "10.0.0.2") == ("eth0", "=eth0"), "and not eth01, which begins alike"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert _chosen(monkeypatch, "10.0.0.2") == ("ib0", "=eth0")


def test_an_address_that_no_interface_has_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _chosen(monkeypatch, "192.0.2.7") == (None, None)


def test_workers_are_checked_and_told_before_they_get_a_process_group(monkeypatch) -> None:
    done: list[str] = []
    group = SimpleNamespace(execute=lambda function, *arguments: function(*arguments))
    monkeypatch.setattr("search.oneshot.network.choose_interface", lambda: done.append("told"))
    monkeypatch.setattr(
        "ray.train.torch.config._TorchBackend.on_start", lambda *_: done.append("process group")
    )
    config = NodeNetwork(check=lambda: done.append("checked"))
    config.backend_cls().on_start(group, config)
    assert done == ["checked", "told", "process group"]
