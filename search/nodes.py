"""The machines of a Ray cluster, and what their devices can do."""

from __future__ import annotations

import contextlib
import csv
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.records.stays import HOSTNAME, NODE_IP, machine
from search.units import MIB
from trainables.errors import DiskFullError, UserError
from trainables.step.precision import cpu_computes_in_bf16

_Number = TypeVar("_Number", int, float)
_Answer = TypeVar("_Answer")

#: Ray's label of a node's kind of GPU, which it sets on every node with NVIDIA GPUs.
KIND = "ray.io/accelerator-type"

#: Ray's label with a node's id.
NODE_ID = "ray.io/node-id"

_PROBE = (
    "nvidia-smi",
    "--query-gpu=memory.total,memory.reserved,mig.mode.current,compute_cap",
    "--format=csv,noheader,nounits",
)
_PROBE_SECONDS = 60.0


class NodeError(UserError):
    """A machine of the cluster cannot do its part of a search, which can go on once that is mended."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        cpus: CPU cores that Ray may give to trials.
        memory: Bytes of main memory that Ray may give to trials, or None if Ray does not count it.
        gpus: Number of GPUs.
        accelerator: Ray's name of the kind of GPU (``A10G``), empty if Ray knows none.
        gpu_memory: Bytes of one GPU that programs can use, or None if unknown.
        capability: CUDA compute capability of the least capable GPU, or None if unknown.
        node_id: Ray's id of the machine.
        name: The machine's name in messages.
        hostname: What the machine itself is called.
        address: Its IP address.
    """

    cpus: float
    memory: int | None = None
    gpus: int = 0
    accelerator: str = ""
    gpu_memory: int | None = None
    capability: float | None = None
    node_id: str = ""
    name: str = ""
    hostname: str = ""
    address: str = ""


@dataclass(frozen=True)
class Gpus:
    """What ``nvidia-smi`` says of the GPUs of a machine.

    Attributes:
        memory: Bytes of the smallest one that programs can use, or None if unknown.
        capability: CUDA compute capability of the least capable one, or None if unknown.
    """

    memory: int | None = None
    capability: float | None = None

    @classmethod
    def read(cls, answer: str) -> Gpus:
        """Read the program's answer.

        Args:
            answer: Lines of total MiB, reserved MiB, MIG mode and compute capability; a value that does not
                apply is ``[N/A]``.
        """
        sizes: list[int | None] = []
        capabilities: list[float | None] = []
        for total, reserved, mig, capability in csv.reader(answer.splitlines(), skipinitialspace=True):
            taken = int(reserved) if reserved.isdecimal() else 0
            sizes.append(int(total) - taken if total.isdecimal() and mig != "Enabled" else None)
            whole = capability.replace(".", "", 1).isdecimal()
            capabilities.append(float(capability) if whole else None)
        smallest = least(sizes)
        return cls(smallest * MIB if smallest else None, least(capabilities))


def find_nodes(gpu_memory: int | None = None) -> list[Node]:
    """Return the machines of the Ray cluster that this process has joined.

    What is known of GPUs comes from ``nvidia-smi`` on their node, without taking a GPU or touching CUDA.
    Memory that driver and firmware reserve does not count. Of several GPUs on a node, the smallest and the
    least capable one count. The size is unknown if there is no answer, or if a GPU is split into MIG devices,
    whose sizes ``nvidia-smi`` does not list.

    Args:
        gpu_memory: Bytes of every GPU, as given by the user; None takes the nodes' answers.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    # A function of the standard library, so the workers import neither this package nor torch.
    owners = [node["NodeID"] for node in alive if node["Resources"].get("GPU")]
    answers = _ask(owners, subprocess.check_output, _PROBE, text=True)
    found = {node: Gpus.read(answer) for node, answer in answers.items()}
    return [
        Node(
            cpus=node["Resources"].get("CPU", 0.0),
            memory=int(node["Resources"].get("memory", 0)) or None,
            gpus=int(node["Resources"].get("GPU", 0)),
            accelerator=node["Labels"].get(KIND, ""),
            gpu_memory=gpu_memory or found.get(node["NodeID"], Gpus()).memory,
            capability=found.get(node["NodeID"], Gpus()).capability,
            node_id=node["NodeID"],
            name=node["NodeName"],
            hostname=node["NodeManagerHostname"],
            address=node["NodeManagerAddress"],
        )
        for node in alive
    ]


def addresses(*, gpus: bool) -> dict[str, str]:
    """Return the addresses of the cluster's machines on which trials can be placed, by node id.

    Args:
        gpus: Whether trials run on GPUs.
    """
    kind = "GPU" if gpus else "CPU"
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get(kind)
    }


def hostname(address: str) -> str | None:
    """Return the name of the machine that has an address, which may have left; None if Ray knows none."""
    names = (node["NodeManagerHostname"] for node in ray.nodes() if node["NodeManagerAddress"] == address)
    return next(names, None)


@contextlib.contextmanager
def node_named() -> Iterator[None]:
    """Name the machine on which this process of Ray's runs, if a user's mistake ends the block.

    Raises:
        NodeError: In place of a ``UserError``.
    """
    try:
        yield
    except DiskFullError:
        raise
    except UserError as error:
        raise NodeError(f"{error} (on {machine(**place_here())})") from error


def place_here() -> dict[str, str]:
    """Return the address and name of the machine of this process of Ray's, as reports have them."""
    return {NODE_IP: ray.util.get_node_ip_address(), HOSTNAME: socket.gethostname()}


def cause_of(error: Exception) -> Exception:
    """Return the error that a worker has raised; Ray's own one has the text of its traceback, too."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    assert isinstance(cause, Exception)
    return cause


def node_ids() -> set[str]:
    """Return Ray's ids of the machines that are in the cluster now."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def cpus_in_bf16(nodes: Iterable[Node]) -> dict[str, bool]:
    """Return whether the CPUs of machines compute in bfloat16 natively, by node id.

    Machines without an answer are left out.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node.node_id for node in nodes if node.node_id != here]
    return {here: cpu_computes_in_bf16(), **_ask(others, cpu_computes_in_bf16)}


def least(values: Iterable[_Number | None]) -> _Number | None:
    """Return the least value; None if one of them is unknown, or if there is none."""
    known = list(values)
    return None if None in known else min((value for value in known if value is not None), default=None)


def start_on(
    node_id: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> ray.ObjectRef[Any]:
    """Start a function on a machine, without taking resources; return the reference of its answer."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    return task.options(scheduling_strategy=there).remote(*arguments, **options)


def _ask(
    nodes: Sequence[str], function: Callable[..., _Answer], *arguments: Any, **options: Any
) -> dict[str, _Answer]:
    """Return what a function returns on machines, by node id; machines without an answer are left out."""
    asked = {start_on(node, function, *arguments, **options): node for node in nodes}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_SECONDS) if asked else ([], [])
    found = {}
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):  # no such program there, or the node is gone
            found[asked[answer]] = ray.get(answer)
    return found
