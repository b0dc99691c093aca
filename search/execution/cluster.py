"""The Ray that a search runs on, and whether the search's trials can run there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import ray

from search.confidential import credentials_withheld
from search.config import SearchConfig
from search.placement import Node, Placement
from search.setup import Setup, cheapest
from search.units import format_size
from trainables.errors import UserError


@contextlib.contextmanager
def cluster(wanted: str | None) -> Iterator[None]:
    """Join a Ray cluster, or start Ray and stop it at the end.

    Args:
        wanted: Address of the cluster; None takes ``RAY_ADDRESS``, or else starts Ray on this machine.

    Raises:
        UserError: If the cluster cannot be joined.
    """
    started = not ray.is_initialized()
    if started:
        address = wanted or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            options["include_dashboard"] = False
        try:
            with credentials_withheld():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--address {address}: no Ray cluster can be joined there ({reason})") from error
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def require_gpus(config: SearchConfig, nodes: list[Node]) -> None:
    """Raise ``UserError`` if GPUs are asked for, but this machine alone is used and has none."""
    alone = config.backend.address in (None, "local") and not os.environ.get("RAY_ADDRESS")
    asked = config.placement
    if alone and (asked.gpus_per_trial or asked.gpu_memory) and not any(node.gpus for node in nodes):
        option = "--gpus-per-trial" if asked.gpus_per_trial else "--gpu-memory"
        raise UserError(f"{option}: there is no GPU here; leave it out, or join a cluster with --address")


def require_room(setup: Setup, placement: Placement) -> None:
    """Raise ``UserError`` if even the space's smallest configuration fits no device of the cluster."""
    if placement.limit is None:
        return

    def needed(config: dict[str, Any]) -> int:
        expected = setup.predictor.predict_as_run(config, cached=setup.config.trial.feature_cache)
        return placement.needed(expected.total)

    least = cheapest(setup.space, setup.context, needed, placement.limit)
    if least > placement.limit:
        raise UserError(
            f"space '{setup.space.name}': its smallest configuration needs {format_size(round(least))} of a "
            f"device, and a trial can have {format_size(placement.limit)} here; choose a smaller "
            "--batch-size or larger devices"
        )
