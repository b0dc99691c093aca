"""Clusters with Kubernetes, on which the KubeRay operator runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated

from search.config.markers import SIZE, named_values
from search.launching.jobs import JobSearch
from search.launching.kinds import register_kind
from search.launching.plan import Plan
from search.launching.rendering import render
from search.launching.settings import ClusterSettings, File, StoragePath
from search.units import GIB, write_size
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help

_EXAMPLE = "registry.example.com/paretofuse:latest"
#: Where the volume is in the pods, and the program in the image (see Dockerfile).
_VOLUME = "/results"
_PROGRAM = "/opt/paretofuse"


@dataclass(frozen=True, kw_only=True)
class KubeSettings(ClusterSettings):
    """What is to be known of a RayJob."""

    file: File = "rayjob.yaml"
    storage_path: StoragePath = f"{_VOLUME}/runs"
    image: Annotated[
        str,
        Help(
            "Image of this program, made from the Dockerfile, in a registry of yours.", metavar="NAME[:TAG]"
        ),
    ] = _EXAMPLE
    workers: Annotated[int, Help("Most pods that run trials.", metavar="N"), AtLeast(1), AtMost(MOST)] = 4
    min_workers: Annotated[
        int,
        Help("Pods that run trials from the start; the others come when trials wait.", metavar="N"),
        AtLeast(0),
        AtMost(MOST),
    ] = 0
    cpus: Annotated[
        int, Help("Number of CPUs of a pod that runs trials.", metavar="N"), AtLeast(1), AtMost(MOST)
    ] = 4
    memory: Annotated[int, Help("Memory of a pod that runs trials."), SIZE, AtLeast(GIB)] = 16 * GIB
    node_selector: Annotated[
        tuple[str, ...],
        Help(
            "Label of the nodes on which trials may run, for example cloud.google.com/gke-accelerator="
            "nvidia-l4. The option may be repeated.",
            metavar="LABEL=VALUE",
        ),
    ] = ()
    claim: Annotated[
        str | None,
        Help(
            "Claim of a volume that all nodes can write, if there is one already.",
            metavar="NAME",
            default="a new one",
        ),
    ] = None
    volume_size: Annotated[int, Help("Size of the new volume."), SIZE, AtLeast(GIB)] = 50 * GIB
    storage_class: Annotated[
        str | None,
        Help("Storage class of the new volume.", metavar="NAME", default="the cluster's default"),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.selected_nodes  # noqa: B018  checks the texts
        if self.min_workers > self.workers:
            raise UserError(
                f"--min-workers {self.min_workers}: must be at most the {self.workers} of --workers"
            )

    @property
    def selected_nodes(self) -> dict[str, str]:
        """The values of the labels of nodes on which trials may run, by label."""
        return named_values("--node-selector", self.node_selector, "gpu=l4")

    @property
    def volume_file(self) -> str:
        """The file with the claim of the new volume; apart, so that deleting the job's file keeps results."""
        path = Path(self.file)
        return str(path.with_name(f"{path.stem}-volume{path.suffix}"))

    def check_submit(self) -> None:
        """Check that the image is not the example's.

        Raises:
            UserError: If it is.
        """
        if self.image == _EXAMPLE:
            raise UserError(f"--image: is missing; {_EXAMPLE} is only an example")


@register_kind("kube", KubeSettings, alone=False)
def kube(cluster: KubeSettings, search: tuple[str, ...]) -> Plan:
    """A cluster with Kubernetes and the KubeRay operator: a RayJob that runs one search."""
    job = JobSearch.of(search, cluster.name, cluster.storage_path)
    if PurePosixPath(_VOLUME) not in PurePosixPath(job.storage).parents:
        raise UserError(
            f"--storage-path {job.storage}: must be a folder on the volume, e.g. {cluster.storage_path}"
        )
    claim = cluster.claim or f"{cluster.name}-results"
    starts = ["bash", f"{_PROGRAM}/scripts/search_or_resume.sh", job.storage, job.name, *job.options]
    files = {
        cluster.file: render(
            "rayjob.yaml",
            file=cluster.file,
            volume_file=None if cluster.claim else cluster.volume_file,
            name=cluster.name,
            image=cluster.image,
            ray_version=version("ray"),
            entrypoint=shlex.join(starts),
            defaults=replace(cluster, storage_path=job.storage).search_options,
            search=job.name,
            claim=claim,
            volume=_VOLUME,
            workers=cluster.workers,
            min_workers=cluster.min_workers,
            cpus=cluster.cpus,
            memory=_quantity(cluster.memory),
            gpus=cluster.gpus,
            selected_nodes=cluster.selected_nodes,
        )
    }
    apply = [shlex.join(["kubectl", "apply", "-f", cluster.file])]
    if cluster.claim is None:
        files[cluster.volume_file] = render(
            "volume.yaml",
            claim=claim,
            size=_quantity(cluster.volume_size),
            storage_class=cluster.storage_class,
        )
        apply.insert(0, shlex.join(["kubectl", "apply", "-f", cluster.volume_file]))
    build = shlex.join(["docker", "build", "--tag", cluster.image, str(Path(__file__).parents[2])])
    return Plan(files, (build, shlex.join(["docker", "push", cluster.image]), *apply))


def _quantity(size: int) -> str:
    """Return a size as Kubernetes writes it.

    >>> _quantity(16 * 2**30)
    '16Gi'
    """
    return write_size(size).removesuffix("B")
