"""Placement: what a trial asks of the cluster, decided by the memory it needs.

Where there are GPUs, a trial asks for the share of one that its bytes make up, so that small trials lie
side by side on a device and large ones get it whole. Ray keeps the books (shares on a device never add up
to more than one) but enforces nothing on the device; ``Share.granted`` says what a trial must keep to. On
nodes without GPUs a trial asks for CPU cores and for Ray's ``memory``.

In a cluster of several kinds of GPU a trial asks for the share of the smallest device that holds it, and a
label selector keeps it off the kinds that are too small: ``ray.io/accelerator-type`` among those that are
large enough. Ray sets this label on every node with NVIDIA GPUs, nodes that come later included, and it has
few values, so that requests stay equal. The alternatives do less: the resources ``accelerator_type:X`` can
name one kind, never "any of these", and the label ``ray.io/node-id`` shuts out nodes that come later, such
as a replaced Spot instance. With one kind of GPU no label is asked for, and any autoscaler can serve the
request.
"""

from __future__ import annotations

import csv
import math
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.units import format_size
from trainables.errors import UserError
from trainables.memory.calibration import Calibration, find_calibration, needed_on_cpu, needed_on_gpu

#: Shares of a device are multiples of 1/16. Ray Tune hands a worker process on, with the encoders it has
#: loaded, only to a trial with an equal request; with shares as fine as the predictions no two were equal.
STEPS = 16

_KIND = "ray.io/accelerator-type"
_MIB = 2**20
_PROBE = ("nvidia-smi", "--query-gpu=memory.total,memory.reserved,mig.mode.current")
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        cpus: CPU cores that Ray may give to trials.
        memory: Bytes of main memory that Ray may give to trials, or None if it keeps no count.
        gpus: Number of GPUs.
        accelerator: Kind of GPU in Ray's words (``A10G``), empty if Ray knows none.
        gpu_memory: Bytes of one GPU that programs can use, or None if unknown.
    """

    cpus: float
    memory: int | None = None
    gpus: int = 0
    accelerator: str = ""
    gpu_memory: int | None = None


@dataclass(frozen=True)
class Share:
    """What one trial asks for.

    Attributes:
        resources: As Ray names them; at most one GPU, and ``memory`` in bytes.
        labels: Selectors of the node's labels.
        size: The same in devices, or in ordinary trials' worth where it runs on CPU cores.
        granted: Bytes the trial may use: of the device, or of the node's main memory where it runs on CPU
            cores. None if unknown.
        threads: CPU threads the trial may use.
    """

    resources: dict[str, float]
    labels: dict[str, str]
    size: float
    granted: int | None
    threads: int

    def request(self) -> tune.PlacementGroupFactory:
        """Return the request as Ray Tune takes it."""
        selector = {"bundle_label_selector": [self.labels]} if self.labels else {}
        return tune.PlacementGroupFactory([self.resources], **selector)

    def options(self) -> dict[str, Any]:
        """Return the request as the options of a Ray task."""
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        asked = {names[name]: amount for name, amount in self.resources.items()}
        return {"num_cpus": 0, **asked, **({"label_selector": self.labels} if self.labels else {})}


class Placement(ABC):
    """Decides what each trial of a search asks for.

    Attributes:
        concurrent: Most trials at once, those that wait for a place included.
        capacity: Sizes of shares that the cluster holds at once; infinite where it is to grow.
        note: What the user should know about the decision, or None.
    """

    concurrent: int
    capacity: float
    note: str | None

    @property
    @abstractmethod
    def summary(self) -> str:
        """What a trial gets, for people."""

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """Bytes of the largest trial that can be placed, or None if unknown."""

    @abstractmethod
    def needed(self, predicted: int) -> int:
        """Return the bytes that a trial of this predicted memory needs on its device, with a margin."""

    @abstractmethod
    def of(self, needed: int, *, alone: bool = False) -> Share:
        """Return the share of a trial.

        Args:
            needed: Bytes the trial needs on its device.
            alone: Whether it gets the whole device (or node), whatever it needs.

        Raises:
            ValueError: If no device holds it: ``needed`` is above the limit.
        """

    @abstractmethod
    def worker(self, needed: int, count: int) -> Share:
        """Return the share of one of several workers that train one model together, with nothing beside it.

        Args:
            needed: Bytes a worker needs on its device.
            count: Number of workers.

        Raises:
            ValueError: If no device holds it: ``needed`` is above the limit.
        """

    def full(self, shares: Iterable[Share]) -> bool:
        """Return whether these shares fill the cluster.

        How many trials fit depends on which they are. A sampler that is asked for the next one only while
        this is false knows the results of nearly all trials before, and cannot keep a large trial waiting
        by handing out small ones. Simulated, letting any number of trials wait makes a search some 5 %
        shorter (``benchmarks/packing.py``).

        Args:
            shares: Those of the trials that run or wait for a place.
        """
        return sum(share.size for share in shares) > self.capacity - 1 / (2 * STEPS)


@dataclass(frozen=True)
class GpuKind:
    """GPUs that a request cannot tell apart.

    Attributes:
        accelerator: Ray's name of the kind, empty if it has none.
        memory: Bytes of the smallest of them, or None if unknown.
        cpus: CPU cores a GPU, on the node that has fewest.
        calibration: What predictions mean there, if that was measured.
    """

    accelerator: str
    memory: int | None
    cpus: float
    calibration: Calibration | None = None


@dataclass(frozen=True)
class GpuPlacement(Placement):
    """Trials on GPUs.

    Attributes:
        kinds: Kinds of GPU, smallest first.
        fixed: Share of a device that every trial gets; None packs trials by the memory they need.
    """

    kinds: tuple[GpuKind, ...]
    fixed: float | None
    concurrent: int
    capacity: float = math.inf
    note: str | None = None

    @property
    def summary(self) -> str:
        """``1 GPU a trial``, or that trials share GPUs by memory."""
        return "sharing GPUs by memory" if self.fixed is None else f"{self.fixed:g} GPU a trial"

    @property
    def limit(self) -> int | None:
        """Bytes of the largest device, or of the fixed share of it."""
        largest = self.kinds[-1].memory
        return None if largest is None else int(largest * (self.fixed or 1.0))

    def needed(self, predicted: int) -> int:
        """Return the bytes by the calibrations of the kinds, whichever says most."""
        return max(needed_on_gpu(predicted, kind.calibration) for kind in self.kinds)

    def of(self, needed: int, *, alone: bool = False) -> Share:
        """Return a share of the smallest kind of device that holds the trial, or of any larger one."""
        most = 1.0 if alone or self.fixed is None else self.fixed
        holding = [kind for kind in self.kinds if kind.memory is None or needed <= int(kind.memory * most)]
        if not holding:
            raise ValueError(f"{needed} bytes are needed, the largest share of a device is {self.limit}")
        smallest = holding[0].memory
        if alone or self.fixed is not None or smallest is None:
            share = most
        else:
            share = max(1, math.ceil(needed / smallest * STEPS)) / STEPS
        # A node's cores are divided as its GPUs are, rounded to what Ray counts in.
        cpus = math.floor(min(kind.cpus for kind in holding) * share * 10_000) / 10_000
        return Share(
            resources={"CPU": cpus, "GPU": share} if cpus else {"GPU": share},
            labels=(
                {_KIND: f"in({','.join(kind.accelerator for kind in holding)})"}
                if len(holding) < len(self.kinds)
                else {}
            ),
            size=share,
            granted=None if smallest is None else int(smallest * share),
            threads=max(1, int(cpus)),
        )

    def worker(self, needed: int, count: int) -> Share:
        """Return a whole device."""
        return self.of(needed, alone=True)


@dataclass(frozen=True)
class CpuPlacement(Placement):
    """Trials on CPU cores.

    Attributes:
        cores: Cores of an ordinary trial.
        most_cores: Cores of the largest node.
        memories: Main memory of each node with so many cores as a trial has, in bytes, smallest first; empty
            if trials are not to be placed by it.
        unit: Main memory of an ordinary trial; larger ones ask for multiples, so that requests stay equal.
    """

    cores: int
    most_cores: int
    memories: tuple[int, ...]
    unit: int
    concurrent: int
    capacity: float
    note: str | None = None

    @property
    def summary(self) -> str:
        """``1 CPU core a trial``."""
        return f"{self.cores} CPU core{'s' if self.cores > 1 else ''} a trial"

    @property
    def limit(self) -> int | None:
        """Main memory of the largest node."""
        return self.memories[-1] if self.memories else None

    def needed(self, predicted: int) -> int:
        """Return the bytes of the trial's process."""
        return needed_on_cpu(predicted)

    def of(self, needed: int, *, alone: bool = False) -> Share:
        """Return cores, and memory on one node."""
        if not self.memories:
            cores = self.most_cores if alone else self.cores
            return Share({"CPU": cores}, {}, cores / self.cores, None, cores)
        holding = [memory for memory in self.memories if needed <= memory]
        if not holding:
            raise ValueError(f"{needed} bytes are needed, the largest node has {self.limit}")
        # On a node larger than what is asked for there would be neighbours: alone takes the largest.
        units = max(1, math.ceil(needed / self.unit)) * self.unit
        memory = self.memories[-1] if alone else min(units, holding[0])
        resources: dict[str, float] = {"CPU": self.cores, "memory": memory}
        return Share(resources, {}, memory / self.unit, memory, self.cores)

    def worker(self, needed: int, count: int) -> Share:
        """Return an even part of the cores of a node."""
        cores = max(1, self.most_cores // count)
        return Share({"CPU": cores}, {}, cores / self.cores, None, cores)


def find_nodes(gpu_memory: int | None = None) -> list[Node]:
    """Return the machines of the Ray cluster that this process has joined.

    The size of GPUs is asked of their node's ``nvidia-smi``, without taking a GPU or touching CUDA: what a
    driver and firmware keep for themselves is not counted, and of several GPUs on a node the smallest
    counts. It stays unknown where there is no answer, or where a GPU is split into MIG devices, whose sizes
    it does not list.

    Args:
        gpu_memory: The user's word on the size of every GPU, in bytes; nodes are not asked then.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    owners = [node["NodeID"] for node in alive if node["Resources"].get("GPU")]
    sizes = dict.fromkeys(owners, gpu_memory) if gpu_memory else _ask(owners)
    return [
        Node(
            cpus=node["Resources"].get("CPU", 0.0),
            memory=int(node["Resources"].get("memory", 0)) or None,
            gpus=int(node["Resources"].get("GPU", 0)),
            accelerator=node["Labels"].get(_KIND, ""),
            gpu_memory=sizes.get(node["NodeID"]),
        )
        for node in alive
    ]


def place(
    nodes: Sequence[Node],
    num_samples: int,
    *,
    max_concurrent: int | None = None,
    gpus_per_trial: float | None = None,
    gpu_memory: int | None = None,
    packing: bool = True,
    attention: str = "eager",
) -> Placement:
    """Decide how a search's trials are placed: on GPUs where there are any, else on CPU cores.

    On a cluster whose GPU nodes are still to come, ``gpu_memory`` or ``gpus_per_trial`` must be given: asking
    for GPUs is what makes an autoscaler start them.

    Args:
        nodes: The cluster's machines, from ``find_nodes``.
        num_samples: Trials planned.
        max_concurrent: Most trials at once, or None for as many as fit.
        gpus_per_trial: Share of a GPU that every trial gets, 0 for none; None packs them by memory.
        gpu_memory: The user's word on the size of a GPU, in bytes; see ``find_nodes``.
        packing: Whether trials are placed by the memory they need; if not, each gets a GPU of its own, or
            on nodes without GPUs its cores and no count of memory.
        attention: Attention kernel, for which calibrations are looked up.

    Raises:
        UserError: If ``gpus_per_trial`` is not between 0 and 1.
    """
    if gpus_per_trial is not None and not 0 <= gpus_per_trial <= 1:
        raise UserError(f"--gpus-per-trial {gpus_per_trial:g}: a trial runs on one GPU; give 0 to 1")
    most = min(num_samples, max_concurrent or num_samples)
    owners = [node for node in nodes if node.gpus]
    if gpus_per_trial == 0 or not (owners or gpus_per_trial or gpu_memory):
        return _on_cores(nodes, most, packing=packing)
    fixed = gpus_per_trial if gpus_per_trial or packing else 1.0
    if not owners:
        # One core beside each GPU is all that can be taken for granted of nodes that are still to come.
        return GpuPlacement((GpuKind("", gpu_memory, 1.0),), fixed, most)
    kinds, note = _kinds(owners, attention)
    if fixed is None and kinds[0].memory is None:
        fixed = 1.0
        note = "the memory of the GPUs could not be found: one trial a GPU; --gpu-memory says it"
    devices = sum(node.gpus for node in owners)
    if max_concurrent:  # whoever says how many lets them wait for nodes that are still to come
        return GpuPlacement(kinds, fixed, most, note=note)
    a_device = STEPS if fixed is None else int(1 / fixed)
    return GpuPlacement(kinds, fixed, min(most, devices * a_device), devices, note)


def _kinds(owners: Sequence[Node], attention: str) -> tuple[tuple[GpuKind, ...], str | None]:
    """Group GPUs by what a label can select, smallest first, and say where sizes were levelled down."""
    groups: dict[str, list[Node]] = {}
    for node in owners:
        groups.setdefault(node.accelerator, []).append(node)
    if "" in groups or any(node.gpu_memory is None for node in owners):
        groups = {"": list(owners)}  # nothing to tell them apart by
    kinds = []
    note = None
    for accelerator, members in groups.items():
        sizes = [node.gpu_memory for node in members if node.gpu_memory is not None]
        memory = min(sizes) if len(sizes) == len(members) else None
        if memory is not None and max(sizes) > memory:
            note = (
                f"Ray cannot tell GPUs of {format_size(memory)} and {format_size(max(sizes))} apart: "
                f"all count as {format_size(memory)}"
            )
        cpus = min(node.cpus / node.gpus for node in members)
        kinds.append(GpuKind(accelerator, memory, cpus, find_calibration(accelerator, attention)))
    return tuple(sorted(kinds, key=lambda kind: kind.memory or 0)), note


def _on_cores(nodes: Sequence[Node], most: int, *, packing: bool) -> CpuPlacement:
    """Divide cores and main memory: one core a trial wastes least; fewer trials than cores share them out."""
    cores = most_cores = max([1, *(int(node.cpus) for node in nodes)])
    while cores > 1 and sum(int(node.cpus) // cores for node in nodes) < most:
        cores -= 1
    slots = [(int(node.cpus) // cores, node.memory) for node in nodes if node.cpus >= cores]
    fit = max(1, sum(of_node for of_node, _ in slots))
    sizes = [(memory, memory // of_node) for of_node, memory in slots if memory is not None]
    if not packing or not sizes or len(sizes) < len(slots):
        return CpuPlacement(cores, most_cores, (), 0, min(most, fit), fit)
    memories = tuple(sorted(memory for memory, _ in sizes))
    return CpuPlacement(cores, most_cores, memories, min(unit for _, unit in sizes), min(most, fit), fit)


def _ask(owners: Sequence[str]) -> dict[str, int | None]:
    """Ask nodes for the size of their smallest GPU; those that give no answer are left out."""
    # A function of the standard library: the worker need not import this package, and torch with it.
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
        answer: Lines of total MiB, reserved MiB and MIG mode; what does not apply reads ``[N/A]``.
    """
    sizes = []
    for total, reserved, mig in csv.reader(answer.splitlines(), skipinitialspace=True):
        if not total.isdecimal() or mig == "Enabled":
            return None
        sizes.append(int(total) - (int(reserved) if reserved.isdecimal() else 0))
    return min(sizes, default=0) * _MIB or None
