"""The network over which the workers of a supernet share gradients: that of the addresses Ray knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

#: The variables by which Gloo and NCCL are told an interface, and how each of them reads a name as a whole.
_VARIABLES = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}


@dataclass
class NodeNetwork(TorchConfig):
    """Has the workers talk over the interface that has their node's address, as Ray knows it.

    Gloo would take the address to which the machine's name resolves. Debian and Ubuntu let that be
    ``127.0.1.1``, so that workers on different machines would each connect to themselves.

    Attributes:
        check: Called in each worker before all else; it raises an error if the worker cannot train.
    """

    check: Callable[[], None] = lambda: None

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """Chooses the interface before the process group is made."""
        return _NodeNetworkBackend


class _NodeNetworkBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: NodeNetwork) -> None:
        worker_group.execute(_prepare, backend_config.check)
        # The others connect to the first worker at its node's address, too.
        super().on_start(worker_group, backend_config)


def _prepare(check: Callable[[], None]) -> None:
    check()
    choose_interface()


def choose_interface() -> None:
    """Tell Gloo and NCCL in this process the interface of its node's address, unless the user has.

    Nothing is told if no interface of this machine has the address, as behind a translation of addresses.
    """
    name = interface_of(ray.util.get_node_ip_address())
    if name is not None:
        for variable, form in _VARIABLES.items():
            os.environ.setdefault(variable, form.format(name))


def interface_of(address: str) -> str | None:
    """Return the name of the interface that has an address; None if there is none."""
    for name, found in psutil.net_if_addrs().items():
        # An IPv6 address of a link ends with the name of its interface: fe80::1%eth0.
        if any(one.address.partition("%")[0] == address for one in found):
            return name
    return None
