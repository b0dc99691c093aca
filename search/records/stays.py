"""Where trials run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Keys of a report that say where it comes from. Ray Tune adds the first two to each report of a trial.
NODE_IP = "node_ip"
HOSTNAME = "hostname"
DEVICE = "device"


def machine(hostname: str | None, node_ip: str | None) -> str:
    """Return a machine's name and address, as messages show them."""
    if not hostname or hostname == node_ip:
        return node_ip or "an unknown machine"
    return f"{hostname} ({node_ip})" if node_ip else hostname


@dataclass(frozen=True)
class Stay:
    """Where a trial ran, from one of its epochs on.

    Attributes:
        node_ip: Address of the machine.
        hostname: Name of the machine.
        device: The device, as ``cpu`` or ``cuda (NVIDIA A10G)``; empty if none computed, as in a replay.
        epoch: The first epoch that was reported from there.
    """

    node_ip: str
    hostname: str
    device: str
    epoch: int

    @property
    def place(self) -> dict[str, str]:
        """What a machine and its device are called, without the epoch."""
        return {NODE_IP: self.node_ip, HOSTNAME: self.hostname, DEVICE: self.device}

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a JSON document."""
        return asdict(self)

    @classmethod
    def of_report(cls, result: Mapping[str, Any], epoch: int) -> Stay | None:
        """Return where an epoch was reported from; None if the report does not say."""
        if NODE_IP not in result:
            return None
        return cls(result[NODE_IP], result.get(HOSTNAME, ""), result.get(DEVICE, ""), epoch)


def in_words(stays: Sequence[Stay], epochs: int) -> str:
    """Return which epochs of a trial ran where, in order.

    Args:
        stays: Where the trial ran.
        epochs: Number of epochs that it has reported.
    """
    ends = [*(stay.epoch - 1 for stay in stays[1:]), epochs]
    parts = []
    for stay, last in zip(stays, ends, strict=True):
        of = f"epoch {last}" if last == stay.epoch else f"epochs {stay.epoch}-{last}"
        device = f", {stay.device}" if stay.device else ""
        parts.append(f"{of}: {machine(stay.hostname, stay.node_ip)}{device}")
    return "; ".join(parts)
