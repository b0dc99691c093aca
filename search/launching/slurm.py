"""Clusters with the batch system Slurm."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from search.config.markers import DURATION
from search.launching.jobs import JobSearch
from search.launching.kinds import register_kind
from search.launching.plan import Plan
from search.launching.rendering import render
from search.launching.settings import ClusterSettings, File, StoragePath
from search.records.place import DEFAULT_STORAGE, absolute
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help

_ROOT = Path(__file__).parents[2]
_DAY, _HOUR, _MINUTE = 24 * 60 * 60, 60 * 60, 60
_WORD = re.compile(r"[\w.,:@+-]+")


@dataclass(frozen=True, kw_only=True)
class SlurmSettings(ClusterSettings):
    """What is to be known of a job."""

    starts_later: ClassVar[bool] = False

    file: File = "search.sbatch"
    storage_path: StoragePath = DEFAULT_STORAGE
    nodes: Annotated[int, Help("Number of nodes.", metavar="N"), AtLeast(1), AtMost(MOST)] = 2
    gpu_type: Annotated[
        str | None, Help("Type of the GPUs, as Slurm calls it.", metavar="TYPE", default="any")
    ] = None
    cpus: Annotated[
        int | None,
        Help("Least number of CPUs of a node; the job gets all of them.", metavar="N", default="any"),
        AtLeast(1),
        AtMost(MOST),
    ] = None
    time: Annotated[
        float,
        Help(
            "Time limit of the job. A search that needs longer goes on when the same file is submitted again."
        ),
        DURATION,
        AtLeast(10 * _MINUTE),
    ] = 1.0 * _DAY
    partition: Annotated[
        str | None, Help("Partition to run in.", metavar="NAME", default="Slurm's default")
    ] = None
    account: Annotated[
        str | None, Help("Account that is charged.", metavar="NAME", default="Slurm's default")
    ] = None
    setup: Annotated[
        tuple[str, ...],
        Help(
            "Shell command that the job runs first, for example 'module load python/3.12'. The option may be "
            "repeated.",
            metavar="COMMAND",
        ),
    ] = ()
    venv: Annotated[
        str,
        Help(
            "Virtual environment with this program, which all nodes must see. The job makes it if it is not "
            "there.",
            metavar="FOLDER",
            default="the one that runs this command",
        ),
    ] = sys.prefix

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, text in {
            "--gpu-type": self.gpu_type,
            "--partition": self.partition,
            "--account": self.account,
        }.items():
            if text is not None and not _WORD.fullmatch(text):
                raise UserError(f"{flag} '{text}': must be a name that Slurm knows, without spaces")


@register_kind("slurm", SlurmSettings, alone=False)
def slurm(cluster: SlurmSettings, search: tuple[str, ...]) -> Plan:
    """A cluster with the batch system Slurm: a job that starts Ray on its nodes and runs one search."""
    job = JobSearch.of(search, cluster.name, cluster.storage_path)
    storage = absolute(job.storage)
    checkout = _ROOT if (_ROOT / "search.py").exists() else None
    text = render(
        "slurm.sh",
        file=cluster.file,
        job=cluster.name,
        nodes=cluster.nodes,
        gpus=":".join(filter(None, ("gpu", cluster.gpu_type, str(cluster.gpus)))) if cluster.gpus else None,
        cpus=cluster.cpus,
        time=_slurm_time(cluster.time),
        partition=cluster.partition,
        account=cluster.account,
        folder=os.getcwd(),
        setup=cluster.setup,
        venv=absolute(cluster.venv),
        checkout=checkout and str(checkout),
        program=shlex.join(["python", str(checkout / "search.py")] if checkout else ["paretofuse"]),
        storage=storage,
        search=job.name,
        defaults=replace(cluster, storage_path=storage).search_options,
        options=[shlex.join(words) for words in _by_option(job.options)],
    )
    return Plan({cluster.file: text}, (shlex.join(["sbatch", cluster.file]),))


def _slurm_time(seconds: float) -> str:
    """Return a duration as Slurm writes it, in whole minutes.

    >>> _slurm_time(90000)
    '1-01:00:00'
    """
    days, rest = divmod(int(seconds), _DAY)
    return f"{days}-{rest // _HOUR:02}:{rest % _HOUR // _MINUTE:02}:00"


def _by_option(words: Iterable[str]) -> list[list[str]]:
    """Return the words of a command line in groups that begin with an option each.

    >>> _by_option(["--space", "pmf_nas", "--seed", "1"])
    [['--space', 'pmf_nas'], ['--seed', '1']]
    """
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups
