"""The settings that all kinds of clusters share. A kind inherits them and adds its own."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Annotated, ClassVar

from search.config.markers import SIZE
from search.units import write_size
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help, MoreThan, Settings

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")

#: Types of the fields for which each kind has a default of its own.
File = Annotated[str, Help("File to write.", metavar="FILE")]
StoragePath = Annotated[
    str,
    Help(
        "Folder for the results, or an address such as s3://BUCKET/runs. All nodes must see it.",
        metavar="FOLDER",
    ),
]
Gpus = Annotated[
    int, Help("Number of GPUs of a node that runs trials.", metavar="N"), AtLeast(0), AtMost(MOST)
]
ComputeCapability = Annotated[
    float | None,
    Help(
        "CUDA compute capability of the GPUs, for example 8.6, if they are not there when a search starts.",
        metavar="X.Y",
        default="that of the GPUs that are there",
    ),
    MoreThan(0),
    AtMost(1000),
]


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(Settings):
    """What every kind of cluster is told."""

    panel: ClassVar[str | None] = "The cluster"
    #: Whether nodes may start when a search already runs, which must then ask for GPUs it cannot see.
    starts_later: ClassVar[bool] = True

    name: Annotated[str, Help("Name of the cluster: small letters, digits and hyphens.", metavar="NAME")] = (
        "paretofuse"
    )
    file: File = "cluster.yaml"
    storage_path: StoragePath = "/shared/runs"
    gpus: Gpus = 1
    gpu_memory: Annotated[
        int | None,
        Help(
            "Memory of each GPU, for example 22GiB. Trials then share a GPU by the memory that they need.",
            default="not known before a GPU is there",
        ),
        SIZE,
        AtLeast(1),
    ] = None
    compute_capability: ComputeCapability = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"--name {self.name}: must be up to 40 small letters, digits and hyphens, the first a letter"
            )

    def check_submit(self) -> None:
        """Check that nothing is left of the example that the defaults describe.

        Raises:
            UserError: If something must be said before the commands can run.
        """

    @property
    def search_options(self) -> str:
        """The options that every search on this cluster has by default, as on a command line."""
        options = ["--storage-path", self.storage_path]
        if self.gpus == 0:
            options += ["--gpus-per-trial", "0"]
        elif self.gpu_memory is not None:
            options += ["--gpu-memory", write_size(self.gpu_memory)]
        elif self.starts_later:
            options += ["--gpus-per-trial", "1"]
        if self.gpus and self.compute_capability is not None:
            options += ["--compute-capability", str(self.compute_capability)]
        return shlex.join(options)
