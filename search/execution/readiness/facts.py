"""What is known of a machine on which trials run: where it is, what it offers, and with what it runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from search.execution.readiness import there
from search.nodes import Node
from search.records.stays import machine


@dataclass(frozen=True)
class NodeFacts:
    """A machine of the cluster, and the versions with which it runs trials.

    Attributes:
        node_id: Ray's id of the machine.
        hostname: What the machine itself is called.
        node_ip: Its IP address.
        gpus: Number of GPUs that it offers.
        accelerator: Ray's name of the kind of GPU, empty if Ray knows none.
        python: Version of Python; empty, like all below, if the machine has not answered.
        torch: Version of torch.
        transformers: Version of transformers.
        ray: Version of Ray.
        code: Hash of this program's files; empty if the machine lacks them.
        folder: The folder from which it imports this program.
        executable: Its Python interpreter.
        files: Hash of each of the program's files.
    """

    node_id: str
    hostname: str
    node_ip: str
    gpus: int = 0
    accelerator: str = ""
    python: str = ""
    torch: str = ""
    transformers: str = ""
    ray: str = ""
    code: str = ""
    folder: str = ""
    executable: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, node: Node, answer: Mapping[str, Any] | None = None) -> NodeFacts:
        """Return the facts of a machine.

        Args:
            node: The machine, as Ray knows it.
            answer: What ``there.facts`` returned on it; None if there is no answer.
        """
        told = dict(answer or {})
        return cls(
            node.node_id,
            node.hostname or node.name,
            node.address,
            node.gpus,
            node.accelerator,
            **{**told, "folder": told.get("folder") or ""},
            code=there.code_hash(told.get("files", {})),
        )

    @property
    def name(self) -> str:
        """The machine in words: ``worker1 (10.0.0.2)``."""
        return machine(self.hostname, self.node_ip)

    def row(self, *, kept_out: bool) -> dict[str, Any]:
        """Return the machine as a row of a table, with whether trials are kept away from it."""
        left_out = ("node_id", "files", "executable")
        row = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        return {**row, "kept_out": kept_out}


def facts_here(node: Node) -> NodeFacts:
    """Return the facts of the machine on which this process runs."""
    return NodeFacts.of(node, there.facts())
