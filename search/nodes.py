"""The machines of a Ray cluster, and what their devices can do."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.units import MIB

#: Ray's label of a node's kind of GPU, which it sets on every node with NVIDIA GPUs.
KIND = "ray.io/accelerator-type"

_PROBE = ("nvidia-smi", "--query-gpu=memory.total,memory.reserved,mig.mode.current")
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        cpus: CPU cores that Ray may give to trials.
        memory: Bytes of main memory that Ray may give to trials, or None if Ray does not count it.
        gpus: Number of GPUs.
        accelerator: Ray's name of the kind of GPU (``A10G``), empty if Ray knows none.
        gpu_memory: Bytes of one GPU that programs can use, or None if unknown.
    """

    cpus: float
    memory: int | None = None
    gpus: int = 0
    accelerator: str = ""
    gpu_memory: int | None = None


def find_nodes(gpu_memory: int | None = None) -> list[Node]:
    """Return the machines of the Ray cluster that this process has joined.

    The size of GPUs comes from ``nvidia-smi`` on their node, without taking a GPU or touching CUDA. Memory
    that driver and firmware reserve does not count. Of several GPUs on a node, the smallest one counts. The
    size is unknown if there is no answer, or if a GPU is split into MIG devices, whose sizes ``nvidia-smi``
    does not list.

    Args:
        gpu_memory: Bytes of every GPU, as given by the user; None asks the nodes.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    owners = [node["NodeID"] for node in alive if node["Resources"].get("GPU")]
    sizes = dict.fromkeys(owners, gpu_memory) if gpu_memory else _ask(owners)
    return [
        Node(
            cpus=node["Resources"].get("CPU", 0.0),
            memory=int(node["Resources"].get("memory", 0)) or None,
            gpus=int(node["Resources"].get("GPU", 0)),
            accelerator=node["Labels"].get(KIND, ""),
            gpu_memory=sizes.get(node["NodeID"]),
        )
        for node in alive
    ]


def _ask(owners: Sequence[str]) -> dict[str, int | None]:
    """Return the size of each node's smallest GPU; nodes without an answer are left out."""
    # This runs a function of the standard library, so the worker imports neither this package nor torch.
    task = ray.remote(num_cpus=0, max_retries=0)(subprocess.check_output)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(owner, soft=False)).remote(
            [*_PROBE, "--format=csv,noheader,nounits"], text=True
        ): owner
        for owner in owners
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_SECONDS) if asked else ([], [])
    found: dict[str, int | None] = {}
    for answer in answered:
        try:
            found[asked[answer]] = usable_memory(ray.get(answer))
        except ray.exceptions.RayError:  # no nvidia-smi there, or the node is gone
            continue
    return found


def usable_memory(answer: str) -> int | None:
    """Return the bytes that programs can use on the smallest GPU that ``nvidia-smi`` lists.

    Args:
        answer: Lines of total MiB, reserved MiB and MIG mode; a value that does not apply is ``[N/A]``.
    """
    sizes = []
    for total, reserved, mig in csv.reader(answer.splitlines(), skipinitialspace=True):
        if not total.isdecimal() or mig == "Enabled":
            return None
        sizes.append(int(total) - (int(reserved) if reserved.isdecimal() else 0))
    return min(sizes, default=0) * MIB or None
