"""What a trial asks of the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Resources of one trial, and how many fit at once.

    Attributes:
        cpus: CPU cores of a trial, also its number of threads.
        gpus: GPUs of a trial.
        concurrent: Trials at once.
    """

    cpus: int
    gpus: float
    concurrent: int

    @property
    def request(self) -> dict[str, float]:
        """The resources as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}


def place(
    cluster: Mapping[str, float],
    num_samples: int,
    max_concurrent: int | None = None,
    gpus_per_trial: float | None = None,
) -> Placement:
    """Decide what a trial gets: a GPU each where there are any, else a share of the CPU cores.

    Args:
        cluster: The cluster's resources as Ray reports them.
        num_samples: Trials planned.
        max_concurrent: The user's limit, or None.
        gpus_per_trial: The user's choice, or None. On a cluster whose GPU nodes are not up yet it must be
            given: it is what makes the autoscaler start them.
    """
    cpus, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
    most = min(num_samples, max_concurrent or num_samples)
    if gpus_per_trial:
        fit = int(gpus / gpus_per_trial)
        # GPU nodes may still be to come: the user's word counts, else what is asked for makes the
        # autoscaler start as many as its limits allow.
        concurrent = most if max_concurrent or not fit else min(most, fit)
        return Placement(1, gpus_per_trial, concurrent)
    if gpus and gpus_per_trial is None:
        concurrent = min(most, gpus)
        return Placement(max(1, min(cpus // gpus, os.cpu_count() or 1)), 1.0, concurrent)
    # One core a trial wastes least; fewer trials than cores share them out.
    concurrent = max(1, min(most, cpus))
    return Placement(max(1, cpus // concurrent), 0.0, concurrent)
