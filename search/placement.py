"""Placement: the resources that a trial requests from the cluster, decided by the memory it needs.

On GPUs, a trial requests the share of a device that its bytes take, so that small trials share a device and
large ones get a whole one. Ray ensures that the shares on a device never add up to more than one, but it
does not limit the memory of a trial on the device; ``Share.granted`` is that limit. On nodes without GPUs, a
trial requests CPU cores and Ray's ``memory``.

In a cluster with several kinds of GPU, a trial requests the share of the smallest device that holds it. A
label selector excludes the kinds that are too small: ``ray.io/accelerator-type`` must be one of the kinds
that are large enough. Ray sets this label on every node with NVIDIA GPUs, including nodes that join later. It
has few values, so that many requests are equal. The alternatives are weaker: the resource
``accelerator_type:X`` can name only one kind, and the label ``ray.io/node-id`` excludes nodes that join
later, such as a replaced Spot instance. With one kind of GPU, no label is requested, so any autoscaler can
serve the request.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ray import tune

from search.nodes import KIND, NODE_ID, Node
from search.units import format_size
from trainables.errors import UserError
from trainables.memory.calibration import Calibration, find_calibration, needed_on_cpu, needed_on_gpu

#: Shares of a device are multiples of 1 / STEPS. Ray Tune reuses a worker process, with its loaded encoders,
#: only for a trial with an equal request; with shares as fine as the predictions, no two would be equal.
STEPS = 16


@dataclass(frozen=True)
class Share:
    """The resources that one trial requests.

    Attributes:
        resources: Amounts by Ray's names; at most one GPU, and ``memory`` in bytes.
        labels: Selectors of the node's labels.
        size: Size of the share: in devices on GPUs, in ordinary trials on CPU cores.
        granted: Bytes that the trial may use, of the device or (on CPU cores) of the node's main memory; None
            if unknown.
        threads: Number of CPU threads that the trial may use.
    """

    resources: dict[str, float]
    labels: dict[str, str]
    size: float
    granted: int | None
    threads: int

    @property
    def on_gpu(self) -> bool:
        """Whether it is a share of a GPU."""
        return "GPU" in self.resources

    def request(self) -> tune.PlacementGroupFactory:
        """Return the request in Ray Tune's form."""
        selector = {"bundle_label_selector": [self.labels]} if self.labels else {}
        return tune.PlacementGroupFactory([self.resources], **selector)

    def options(self) -> dict[str, Any]:
        """Return the request as the options of a Ray task."""
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        asked = {names[name]: amount for name, amount in self.resources.items()}
        return {"num_cpus": 0, **asked, **({"label_selector": self.labels} if self.labels else {})}


class Placement(ABC):
    """Decides the share that each trial of a search requests.

    Attributes:
        concurrent: Most trials at once, including those that wait for resources.
        capacity: Total size of the shares that fit the cluster at once; infinite if the cluster can grow.
        note: A message for the user about the decision, or None.
        kept_out: Ids of the nodes that must not run any trial.
        device: Kind of device on which trials run: ``cuda`` or ``cpu``.
    """

    device: ClassVar[str]
    concurrent: int
    capacity: float
    note: str | None
    kept_out: list[str]

    def keep_out(self, node_id: str) -> None:
        """Keep the shares that are asked for from now on away from a node."""
        if node_id not in self.kept_out:
            self.kept_out.append(node_id)

    @property
    def labels(self) -> dict[str, str]:
        """Selectors that keep every trial away from nodes that must not run any."""
        return {NODE_ID: f"!in({','.join(self.kept_out)})"} if self.kept_out else {}

    @property
    @abstractmethod
    def summary(self) -> str:
        """The resources of a trial, in words."""

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """Bytes of the largest trial that can be placed, or None if unknown."""

    @abstractmethod
    def needed(self, memory: int) -> int:
        """Return the bytes that a trial of this memory, predicted for its device, is given, with a margin."""

    @abstractmethod
    def of(self, needed: int, *, alone: bool = False) -> Share:
        """Return the share of a trial.

        Args:
            needed: Bytes that the trial needs on its device.
            alone: Whether the trial gets the whole device (or node).

        Raises:
            ValueError: If ``needed`` is above the limit, so that no device holds the trial.
        """

    @abstractmethod
    def worker(self, needed: int, count: int) -> Share:
        """Return the share of one of several workers that train one model together, without other trials.

        Args:
            needed: Bytes that a worker needs on its device.
            count: Number of workers.

        Raises:
            ValueError: If ``needed`` is above the limit, so that no device holds a worker.
        """

    def full(self, shares: Iterable[Share]) -> bool:
        """Return whether these shares fill the cluster.

        The number of trials that fit depends on their shares. If the sampler is asked for the next trial only
        while this is false, it knows the results of nearly all earlier trials, and small trials cannot keep
        a large one waiting. In a simulation, letting any number of trials wait makes a search about 5 %
        shorter (``benchmarks/packing.py``).

        Args:
            shares: The shares of the trials that run or wait for resources.
        """
        return sum(share.size for share in shares) > self.capacity - 1 / (2 * STEPS)


@dataclass(frozen=True)
class GpuKind:
    """GPUs that a request cannot tell apart.

    Attributes:
        accelerator: Ray's name of the kind, empty if it has none.
        memory: Bytes of the smallest of these GPUs, or None if unknown.
        cpus: Least number of CPU cores per GPU on a node.
        calibration: What was measured of this kind, or None.
    """

    accelerator: str
    memory: int | None
    cpus: float
    calibration: Calibration | None = None


@dataclass(frozen=True)
class GpuPlacement(Placement):
    """Places trials on GPUs.

    Attributes:
        kinds: Kinds of GPU, smallest first.
        fixed: Share of a device that every trial gets; None packs trials by the memory they need.
    """

    device: ClassVar[str] = "cuda"
    kinds: tuple[GpuKind, ...]
    fixed: float | None
    concurrent: int
    capacity: float = math.inf
    note: str | None = None
    kept_out: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The resources of a trial, in words: ``1 GPU a trial`` or ``sharing GPUs by memory``."""
        return "sharing GPUs by memory" if self.fixed is None else f"{self.fixed:g} GPU a trial"

    @property
    def limit(self) -> int | None:
        """Bytes of the largest device, or of the fixed share of that device; None if unknown."""
        largest = self.kinds[-1].memory
        return None if largest is None else int(largest * (self.fixed or 1.0))

    def needed(self, memory: int) -> int:
        """Return the memory with the largest margin of any kind."""
        return max(needed_on_gpu(memory, kind.calibration) for kind in self.kinds)

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
        # A node's cores are divided like its GPUs, and rounded down to Ray's unit of 1/10000.
        cpus = math.floor(min(kind.cpus for kind in holding) * share * 10_000) / 10_000
        labels = self.labels
        if len(holding) < len(self.kinds):
            labels[KIND] = f"in({','.join(kind.accelerator for kind in holding)})"
        return Share(
            resources={"CPU": cpus, "GPU": share} if cpus else {"GPU": share},
            labels=labels,
            size=share,
            granted=None if smallest is None else int(smallest * share),
            threads=max(1, int(cpus)),
        )

    def worker(self, needed: int, count: int) -> Share:
        """Return a whole device."""
        return self.of(needed, alone=True)


@dataclass(frozen=True)
class CpuPlacement(Placement):
    """Places trials on CPU cores.

    Attributes:
        cores: Number of cores of a trial.
        most_cores: Number of cores of the largest node.
        memories: Bytes of main memory of each node with enough cores for a trial, smallest first; empty if
            trials are not placed by memory.
        unit: Bytes of main memory of an ordinary trial; larger trials request multiples, so that many
            requests are equal.
    """

    device: ClassVar[str] = "cpu"
    cores: int
    most_cores: int
    memories: tuple[int, ...]
    unit: int
    concurrent: int
    capacity: float
    note: str | None = None
    kept_out: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The resources of a trial, in words: ``1 CPU core a trial``."""
        return f"{self.cores} CPU core{'s' if self.cores > 1 else ''} a trial"

    @property
    def limit(self) -> int | None:
        """Bytes of main memory of the largest node; None if trials are not placed by memory."""
        return self.memories[-1] if self.memories else None

    def needed(self, memory: int) -> int:
        """Return the bytes that the trial's process needs."""
        return needed_on_cpu(memory)

    def of(self, needed: int, *, alone: bool = False) -> Share:
        """Return the share of a trial: cores, and memory on one node."""
        if not self.memories:
            cores = self.most_cores if alone else self.cores
            return Share({"CPU": cores}, self.labels, cores / self.cores, None, cores)
        holding = [memory for memory in self.memories if needed <= memory]
        if not holding:
            raise ValueError(f"{needed} bytes are needed, the largest node has {self.limit}")
        # A node with memory left could run neighbours, so ``alone`` requests all memory of the largest node.
        units = max(1, math.ceil(needed / self.unit)) * self.unit
        memory = self.memories[-1] if alone else min(units, holding[0])
        resources: dict[str, float] = {"CPU": self.cores, "memory": memory}
        return Share(resources, self.labels, memory / self.unit, memory, self.cores)

    def worker(self, needed: int, count: int) -> Share:
        """Return an equal part of the cores of the largest node."""
        cores = max(1, self.most_cores // count)
        return Share({"CPU": cores}, self.labels, cores / self.cores, None, cores)


def place(
    nodes: Sequence[Node],
    num_samples: int,
    *,
    max_concurrent: int | None = None,
    gpus_per_trial: float | None = None,
    gpu_memory: int | None = None,
    packing: bool = True,
    excluded: Sequence[Node] = (),
) -> Placement:
    """Decide how a search's trials are placed: on GPUs if there are any, else on CPU cores.

    On a cluster that has not started its GPU nodes yet, ``gpu_memory`` or ``gpus_per_trial`` must be given,
    because an autoscaler starts GPU nodes only when GPUs are requested.

    Args:
        nodes: The cluster's machines, from ``find_nodes``.
        num_samples: Number of planned trials.
        max_concurrent: Most trials at once; None runs as many as fit.
        gpus_per_trial: Share of a GPU that every trial gets, 0 for none; None packs trials by memory.
        gpu_memory: Bytes of a GPU, as given by the user; see ``find_nodes``.
        packing: Whether trials are placed by the memory they need. If not, each trial gets a whole GPU, or on
            nodes without GPUs its cores, and memory is not counted.
        excluded: Further machines of the cluster, on which no trial must run.

    Raises:
        UserError: If ``gpus_per_trial`` is not between 0 and 1.
    """
    if gpus_per_trial is not None and not 0 <= gpus_per_trial <= 1:
        raise UserError(f"--gpus-per-trial {gpus_per_trial:g}: a trial runs on one GPU; give 0 to 1")
    most = min(num_samples, max_concurrent or num_samples)
    kept_out = [node.node_id for node in excluded]
    if not uses_gpus([*nodes, *excluded], gpus_per_trial, gpu_memory):
        return _on_cores(nodes, most, kept_out, packing=packing)
    owners = [node for node in nodes if node.gpus]
    fixed = gpus_per_trial if gpus_per_trial or packing else 1.0
    if not owners:
        # Only one core beside each GPU can be assumed for nodes that are not started yet.
        return GpuPlacement((GpuKind("", gpu_memory, 1.0),), fixed, most, kept_out=kept_out)
    kinds, note = _kinds(owners)
    if fixed is None and kinds[0].memory is None:
        fixed = 1.0
        note = "the memory of the GPUs could not be found: one trial a GPU; --gpu-memory says it"
    devices = sum(node.gpus for node in owners)
    if max_concurrent:  # an explicit number of trials may wait for nodes that are not started yet
        return GpuPlacement(kinds, fixed, most, note=note, kept_out=kept_out)
    a_device = STEPS if fixed is None else int(1 / fixed)
    return GpuPlacement(kinds, fixed, min(most, devices * a_device), devices, note, kept_out)


def uses_gpus(nodes: Iterable[Node], gpus_per_trial: float | None, gpu_memory: int | None) -> bool:
    """Return whether trials run on GPUs, which may still have to be started; see ``place``."""
    return gpus_per_trial != 0 and bool(gpus_per_trial or gpu_memory or any(node.gpus for node in nodes))


def _kinds(owners: Sequence[Node]) -> tuple[tuple[GpuKind, ...], str | None]:
    """Group GPUs by the label that selects them, smallest first; return the kinds and a note, or None."""
    groups: dict[str, list[Node]] = {}
    for node in owners:
        groups.setdefault(node.accelerator, []).append(node)
    if "" in groups or any(node.gpu_memory is None for node in owners):
        groups = {"": list(owners)}  # no label tells them apart
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
        kinds.append(GpuKind(accelerator, memory, cpus, find_calibration(accelerator)))
    return tuple(sorted(kinds, key=lambda kind: kind.memory or 0)), note


def _on_cores(nodes: Sequence[Node], most: int, kept_out: list[str], *, packing: bool) -> CpuPlacement:
    """Divide cores and main memory: one core for each trial, or more if there are fewer trials than cores."""
    cores = most_cores = max([1, *(int(node.cpus) for node in nodes)])
    while cores > 1 and sum(int(node.cpus) // cores for node in nodes) < most:
        cores -= 1
    slots = [(int(node.cpus) // cores, node.memory) for node in nodes if node.cpus >= cores]
    fit = max(1, sum(of_node for of_node, _ in slots))
    sizes = [(memory, memory // of_node) for of_node, memory in slots if memory is not None]
    if not packing or not sizes or len(sizes) < len(slots):
        return CpuPlacement(cores, most_cores, (), 0, min(most, fit), fit, kept_out=kept_out)
    memories = tuple(sorted(memory for memory, _ in sizes))
    unit = min(unit for _, unit in sizes)
    return CpuPlacement(cores, most_cores, memories, unit, min(most, fit), fit, kept_out=kept_out)
