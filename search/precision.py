"""The number format that the devices of a search's trials compute in natively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.nodes import Node, cpus_in_bf16, least
from search.placement import uses_gpus
from trainables.step.precision import AUTO, BF16_CAPABILITY, fastest


@dataclass(frozen=True)
class Decision:
    """A search's precision, and the machines on which it can be used.

    Attributes:
        precision: The precision.
        nodes: Machines on which trials can run.
        excluded: Machines that are kept out, because they would have to emulate the precision.
        lines: What the user is told about it.
    """

    precision: str
    nodes: Sequence[Node]
    excluded: Sequence[Node] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialDevices:
    """The devices that a search's trials can run on.

    Attributes:
        nodes: The cluster's machines.
        on_gpus: Whether trials run on GPUs, else on CPU cores.
        to_come: Compute capability of GPUs that the cluster may start, or None if the user did not state it.
        cpus: Whether the CPUs of machines compute in bfloat16 natively, by node id; needed on CPU cores only.
    """

    nodes: Sequence[Node]
    on_gpus: bool
    to_come: float | None
    cpus: Mapping[str, bool]

    @classmethod
    def of(
        cls,
        nodes: Sequence[Node],
        gpus_per_trial: float | None,
        gpu_memory: int | None,
        compute_capability: float | None,
    ) -> TrialDevices:
        """Return the devices, of those of a cluster that was joined, that these settings choose."""
        on_gpus = uses_gpus(nodes, gpus_per_trial, gpu_memory)
        cpus = {} if on_gpus else cpus_in_bf16([node for node in nodes if node.cpus])
        return cls(nodes, on_gpus, compute_capability, cpus)

    def auto(self) -> tuple[str, str]:
        """Return the precision that all of the devices compute in natively, and why it is this one."""
        if not self.on_gpus:
            bf16 = all(map(self._in_bf16, self._used))
            if len(self._used) == 1:
                does = "computes" if bf16 else "has neither AVX512-BF16 nor AMX to compute"
                return fastest(bf16=bf16), f"this machine's CPU {does} in bfloat16"
            every = "every" if bf16 else "not every"
            return fastest(bf16=bf16), f"{every} CPU of the cluster computes in bfloat16 (AVX512-BF16 or AMX)"
        known = [node.capability for node in self._used]
        lowest = least([*known, self.to_come] if self.to_come else known)
        if lowest is None:
            missing = "the compute capability of the GPUs is not known" if known else "no GPU is up yet"
            return fastest(bf16=False), f"{missing}; --compute-capability states it"
        needed = f"bfloat16 needs {BF16_CAPABILITY:.1f}"
        reason = f"the compute capability of the GPUs is {lowest:.1f} or higher, and {needed}"
        return fastest(bf16=lowest >= BF16_CAPABILITY), reason

    def decide(self, wanted: str) -> Decision:
        """Return the precision to use. Machines that would emulate it are kept out, if others are left.

        A machine of which nothing is known is not kept out.

        Args:
            wanted: The precision that the user has chosen, or ``auto``.
        """
        precision, lines = wanted, []
        if wanted == AUTO:
            precision, reason = self.auto()
            lines.append(f"precision {precision}: {reason}")
        unable = [] if precision == "fp32" else [n for n in self._used if self._in_bf16(n) is False]
        if not unable:
            return Decision(precision, self.nodes, (), tuple(lines))
        names = f"bfloat16 is not native on {', '.join(node.name for node in unable)}"
        if len(unable) == len(self._used):
            return Decision(precision, self.nodes, (), (*lines, f"{names}, so that {precision} is slow"))
        able = [node for node in self.nodes if node not in unable]
        return Decision(precision, able, unable, (*lines, f"{names}, which gets no trials"))

    @property
    def _used(self) -> list[Node]:
        return [node for node in self.nodes if (node.gpus if self.on_gpus else node.cpus)]

    def _in_bf16(self, node: Node) -> bool | None:
        if self.on_gpus:
            return None if node.capability is None else node.capability >= BF16_CAPABILITY
        return self.cpus.get(node.node_id)
