"""Machines that are rented from AWS while they are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from search.launching.kinds import register_kind
from search.launching.plan import Plan
from search.launching.ray_up import RayUpSettings, ray_up_commands, ray_up_values
from search.launching.rendering import render
from search.launching.settings import File, StoragePath
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help

#: Compute capability of the GPUs of a family of instances.
_CAPABILITIES = {
    "g4dn": 7.5,
    "g5": 8.6,
    "g6": 8.9,
    "g6e": 8.9,
    "p4d": 8.0,
    "p4de": 8.0,
    "p5": 9.0,
    "p5e": 9.0,
}
_INSTANCE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+-[0-9]")


@dataclass(frozen=True, kw_only=True)
class AwsSettings(RayUpSettings):
    """What is to be known of the machines to rent."""

    file: File = "cluster.yaml"
    region: Annotated[str, Help("AWS region.", metavar="NAME")] = "us-west-2"
    instance: Annotated[str, Help("Instance type of the nodes that run trials.", metavar="TYPE")] = (
        "g5.xlarge"
    )
    workers: Annotated[
        int, Help("Most nodes that run trials at a time.", metavar="N"), AtLeast(1), AtMost(MOST)
    ] = 4
    spot: Annotated[
        bool, Help("Rent these nodes as Spot instances, which are cheaper, and may be taken back.")
    ] = True
    head_instance: Annotated[str, Help("Instance type of the node that runs the search.", metavar="TYPE")] = (
        "m5.xlarge"
    )
    storage_path: StoragePath = "s3://BUCKET/runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, text in (("--instance", self.instance), ("--head-instance", self.head_instance)):
            if not _INSTANCE.fullmatch(text):
                raise UserError(f"{flag} {text}: must be an instance type such as g5.xlarge")
        if not _REGION.fullmatch(self.region):
            raise UserError(f"--region {self.region}: must be a region such as us-west-2")
        if not re.fullmatch(r"s3://[^/?]+(/[^?]*)?", self.storage_path):
            raise UserError(
                f"--storage-path {self.storage_path}: must be in a bucket, as s3://BUCKET/runs: the "
                "nodes share no disk"
            )
        if self.compute_capability is None:
            known = _CAPABILITIES.get(self.instance.partition(".")[0])
            object.__setattr__(self, "compute_capability", known)

    def check_submit(self) -> None:
        """Raise ``UserError`` if the bucket is still that of the example."""
        super().check_submit()
        if self.storage_path.startswith("s3://BUCKET"):
            raise UserError("--storage-path is missing; write your bucket's address, as s3://BUCKET/runs")

    @property
    def search_options(self) -> str:
        """The options that every search on this cluster has by default, as on a command line."""
        options = super().search_options
        # What is not started yet does not count, unless a number is given.
        return (
            options if self.gpu_memory else f"{options} --max-concurrent {self.workers * max(1, self.gpus)}"
        )


@register_kind("aws", AwsSettings)
def aws(cluster: AwsSettings, search: tuple[str, ...]) -> Plan:
    """Machines rented from AWS: a small head, and GPU nodes that start when trials wait for them."""
    text = render(
        "aws.yaml",
        **ray_up_values(cluster),
        region=cluster.region,
        instance=cluster.instance,
        head_instance=cluster.head_instance,
        workers=cluster.workers,
        spot=cluster.spot,
    )
    return Plan({cluster.file: text}, ray_up_commands(cluster.file, search))
