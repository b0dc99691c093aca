"""Machines of one's own, which are reached over SSH."""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, ClassVar

from search.config.markers import NAMES
from search.launching.kinds import register_kind
from search.launching.plan import Plan
from search.launching.ray_up import RayUpSettings, ray_up_commands, ray_up_values
from search.launching.rendering import render
from search.launching.settings import File, StoragePath
from trainables.errors import UserError
from trainables.options import Help


@dataclass(frozen=True, kw_only=True)
class HostsSettings(RayUpSettings):
    """What is to be known of one's own machines."""

    starts_later: ClassVar[bool] = False

    file: File = "cluster-local.yaml"
    head: Annotated[str, Help("IP address of the machine that runs the search.", metavar="ADDRESS")] = (
        "192.0.2.10"
    )
    workers: Annotated[
        tuple[str, ...],
        Help("IP addresses of the machines that run trials.", metavar="ADDRESS[,ADDRESS]"),
        NAMES,
    ] = ("192.0.2.11", "192.0.2.12")
    external_head: Annotated[
        str | None,
        Help(
            "Address of the head as this machine reaches it, if it differs from --head.",
            metavar="ADDRESS",
            default="that of --head",
        ),
    ] = None
    user: Annotated[str, Help("Account on the machines.", metavar="NAME")] = "ubuntu"
    key: Annotated[
        str, Help("Private SSH key, without a passphrase, that this account accepts.", metavar="FILE")
    ] = "~/.ssh/id_ed25519"
    wheels: Annotated[
        str | None,
        Help(
            "Folder of wheels, the same on all machines, from which the packages are installed if the "
            "machines have no index.",
            metavar="FOLDER",
            default="pip's index",
        ),
    ] = None
    storage_path: StoragePath = "/shared/runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.workers:
            raise UserError("--workers: names no machine; write addresses, e.g. 192.168.1.11,192.168.1.12")
        for flag, address in (("--head", self.head), *(("--workers", each) for each in self.workers)):
            _check_address(flag, address)
        addresses = (self.head, *self.workers)
        twice = next((each for each in addresses if addresses.count(each) > 1), None)
        if twice is not None:
            raise UserError(f"{twice}: is named twice; each machine is either the head or a worker")
        if "://" not in self.storage_path and not PurePosixPath(self.storage_path).is_absolute():
            raise UserError(
                f"--storage-path {self.storage_path}: must be an absolute path, as all machines see "
                "it, or an address such as s3://BUCKET/runs"
            )

    def check_submit(self) -> None:
        """Raise ``UserError`` if an address is one of the example's, which belong to no machine."""
        super().check_submit()
        if self.head == HostsSettings.head:
            raise UserError("--head is missing; write the address of the machine that is to run the search")
        if self.workers == HostsSettings.workers:
            raise UserError(
                "--workers is missing; write the addresses of the machines that are to run trials"
            )


def _check_address(flag: str, text: str) -> None:
    """Raise ``UserError`` if a text is no IP address by which another machine can be reached."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UserError(
            f"{flag} {text}: must be an IP address; `getent hosts {shlex.quote(text)}` shows that of a name"
        ) from None
    if address.is_loopback or address.is_unspecified:
        raise UserError(
            f"{flag} {text}: no other machine reaches this one by it; write its address in the network"
        )


@register_kind("hosts", HostsSettings)
def hosts(cluster: HostsSettings, search: tuple[str, ...]) -> Plan:
    """Machines of your own: reached over SSH, with a folder that all of them see, and no batch system."""
    text = render(
        "hosts.yaml",
        **ray_up_values(cluster),
        head=cluster.head,
        workers=cluster.workers,
        external_head=cluster.external_head,
        user=cluster.user,
        key=cluster.key,
        wheels=cluster.wheels,
    )
    return Plan({cluster.file: text}, ray_up_commands(cluster.file, search, cluster.workers))
