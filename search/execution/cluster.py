"""The Ray that a search runs on, and whether the search's trials can run there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import ray
from rich.console import Console

from search.confidential import credentials_withheld
from search.config import SearchConfig
from search.engine.gate import Gate, HeadStart
from search.execution.address import Address
from search.execution.session import handlers_kept, local_ray
from search.nodes import Node
from search.placement import Placement
from search.reporting.progress import say
from search.setup import Setup, cheapest
from search.signals import undisturbed
from search.units import format_size
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.trial.outcome import last_line


def reach(wanted: str | None, console: Console) -> None:
    """Check that the cluster that a search is to join answers, before anything else is done for the search.

    Args:
        wanted: Address of the cluster; None takes ``RAY_ADDRESS``, or else Ray is started on this machine.
        console: Shows which cluster is tried.

    Raises:
        UserError: If no cluster answers within a minute.
    """
    address = Address.of(wanted)
    if ray.is_initialized() or address.local:
        return
    _ = address.target  # what cannot be an address is not joined
    say(console, f"joining the Ray cluster at {address.resolved}{address.note}")
    address.require_answer()


@contextlib.contextmanager
def cluster(wanted: str | None) -> Iterator[None]:
    """Join a Ray cluster, or start Ray and stop it at the end.

    Args:
        wanted: As for ``reach``.

    Raises:
        UserError: If the cluster cannot be joined.
        KeyboardInterrupt: If the search was told to end meanwhile.
    """
    address = Address.of(wanted)
    if ray.is_initialized():
        yield
    elif address.local:
        with local_ray():
            yield
    else:
        with _joined(address):
            yield


@contextlib.contextmanager
def _joined(address: Address) -> Iterator[None]:
    address.require_answer()
    try:
        try:
            with handlers_kept(), credentials_withheld():
                ray.init(address=address.resolved, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(
                f"{address.origin}: the Ray cluster there cannot be joined ({last_line(error)}); this "
                "machine must be one of its nodes, and the port that of the head"
            ) from error
        yield
    finally:
        with undisturbed():
            ray.shutdown()


def require_gpus(config: SearchConfig, nodes: list[Node]) -> None:
    """Raise ``UserError`` if GPUs are asked for, but this machine alone is used and has none."""
    asked = config.placement
    if not (asked.gpus_per_trial or asked.gpu_memory) or any(node.gpus for node in nodes):
        return
    if Address.of(config.backend.address).local:
        option = "--gpus-per-trial" if asked.gpus_per_trial else "--gpu-memory"
        raise UserError(f"{option}: there is no GPU here; leave it out, or join a cluster with --address")


def require_room(setup: Setup, placement: Placement) -> None:
    """Raise ``UserError`` if even the space's smallest configuration fits no device of the cluster."""
    limit = placement.limit
    if limit is None:
        return
    gate = Gate((), placement, setup.config.trial.feature_cache, filling=0)
    starting = gate.starting(HeadStart.of_trials(setup))

    def least_of(needed: Callable[[dict[str, Any], MemoryReport], int]) -> int:
        def cost(config: dict[str, Any]) -> int:
            return needed(config, gate.expected(config, setup.predictor))

        return round(cheapest(setup.space, setup.context, cost, limit))

    least = least_of(gate.needed_for)
    if least > limit:
        raise UserError(
            f"space '{setup.space.name}': its smallest configuration needs {format_size(least)} of a "
            f"device, and a trial can have {format_size(limit)} here; choose a smaller "
            "--batch-size or larger devices"
        )
    least = least_of(starting.needed_to_start)
    if least > limit:
        raise UserError(
            f"--head-start probe: the smallest configuration of space '{setup.space.name}' needs "
            f"{format_size(least)} to start its head, and a trial can have {format_size(limit)} here; use "
            "--head-start random"
        )
