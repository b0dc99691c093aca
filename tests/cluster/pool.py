"""A cloud for ``ray up``: its machines are hosts of the lab, which boot when Ray asks for them.

``PoolProvider`` runs wherever Ray asks, on the laptop and on the head, and writes what it is asked for into a
file. ``Cloud`` runs with the tests, and boots the hosts in that file and no others.

This module imports nothing of the tests, because it is copied to the head.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from ray.autoscaler.node_provider import NodeProvider

_Answer = TypeVar("_Answer")
_Nodes = dict[str, dict[str, str]]

#: The file, from the folder that all machines share.
FILE = "pool.json"


class Pool:
    """The tags of the machines that Ray has asked for, by address.

    Args:
        folder: The shared folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self.lock = FileLock(folder / f"{FILE}.lock", mode=0o666)

    def read(self) -> _Nodes:
        """Return all of them."""
        with self.lock:
            return json.loads(self.file.read_text()) if self.file.exists() else {}

    def change(self, change: Callable[[_Nodes], _Answer]) -> _Answer:
        """Change them; return what the function returns."""
        with self.lock:
            nodes = self.read()
            answer = change(nodes)
            self.file.write_text(json.dumps(nodes))
            if self.file.stat().st_uid == os.geteuid():
                self.file.chmod(0o666)
            return answer


class PoolProvider(NodeProvider):
    """Asks the cloud for machines, as Ray's other providers do.

    In a cluster file: ``head`` is the address of the head, ``workers`` are those of all others, and
    ``folders`` are the paths of the shared folder, of which the first one that exists is taken.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self.pool = Pool(next(Path(folder) for folder in provider_config["folders"] if Path(folder).is_dir()))

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        return [address for address, tags in self.pool.read().items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        return node_id in self.pool.read()

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self.pool.read().get(node_id, {})

    def external_ip(self, node_id: str) -> str:
        return node_id

    def internal_ip(self, node_id: str) -> str:
        return node_id

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        config = self.provider_config
        mine = [config["head"]] if tags["ray-node-type"] == "head" else config["workers"]

        def take(nodes: _Nodes) -> None:
            free = [address for address in mine if address not in nodes]
            nodes.update({address: dict(tags) for address in free[:count]})

        self.pool.change(take)

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self.pool.change(lambda nodes: nodes[node_id].update(tags))

    def terminate_node(self, node_id: str) -> None:
        self.pool.change(lambda nodes: nodes.pop(node_id, None))

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config


class Cloud(threading.Thread):
    """Boots hosts when they are asked for, and powers them off when they are not any more.

    Args:
        folder: The shared folder, as this machine sees it.
        boot: Boots the host of an address.
        power_off: Powers it off.

    Attributes:
        booted: The addresses that were booted, in this order.
        off: The addresses that were powered off.
    """

    def __init__(self, folder: Path, boot: Callable[[str], None], power_off: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.pool = Pool(folder)
        self.boot, self.power_off = boot, power_off
        self.booted: list[str] = []
        self.off: list[str] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Follow the file until ``end`` is called."""
        up: set[str] = set()
        while not self._ended.wait(0.3):
            wanted = set(self.pool.read())
            for address in wanted - up:
                self.boot(address)
                self.booted.append(address)
            for address in up - wanted:
                self.power_off(address)
                self.off.append(address)
            up = wanted

    def end(self) -> None:
        """Stop to follow the file."""
        self._ended.set()
        self.join()
