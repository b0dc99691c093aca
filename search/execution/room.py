"""What a search says while no node of the cluster has room for its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node
from ray.tune import Callback

from search.config import SearchConfig
from search.execution.address import Address
from search.nodes import Node
from search.placement import Share
from search.units import format_size

#: Seconds after which the search says that no node is large enough, and that those which are have no room.
_TOO_SMALL, _BUSY = 10.0, 60.0
#: Seconds between two looks.
LOOK = 5.0
#: Where ``ray up`` puts the description of the cluster on its head; Ray (2.60) publishes it nowhere else.
_DESCRIPTION = "~/ray_bootstrap_config.yaml"


class Room:
    """Says, once for each reason, that what a search waits for finds no room.

    Args:
        say: Called with a line for the user.
        what: What waits, in words.
        may_run: Whether what waits may be running, so that nothing can be said of nodes that are in use.
    """

    def __init__(self, say: Callable[[str], None], what: str = "a trial", *, may_run: bool = False) -> None:
        self._say = say
        self._what = what
        self._may_run = may_run
        self._since: float | None = None
        self._looked = 0.0
        self._said = ""

    def found(self) -> None:
        """Take note that something runs."""
        self._since = None
        self._said = ""

    def wanted(self, share: Share) -> None:
        """Take note that a share of a node is asked for, and that nothing runs."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._looked < LOOK or now - self._since < _TOO_SMALL:
            return
        self._looked = now
        busy = not self._may_run and now - self._since >= _BUSY
        line = lack(share, self._what, busy=busy)
        if line and line != self._said:
            self._said = line
            self._say(line)


class Waiting(Callback):
    """Says that Ray Tune waits for room.

    Args:
        say: Called with a line for the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._room = Room(say)
        self._due = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks, and this one has no state to keep.
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for trials that wait while none runs."""
        now = time.monotonic()
        if now < self._due:  # there are steps all the time, and many trials
            return
        self._due = now + 1
        by_status: dict[str, Any] = {trial.status: trial for trial in trials}
        if "RUNNING" in by_status or "PENDING" not in by_status:
            self._room.found()
        else:
            self._room.wanted(by_status["PENDING"].config["share"])


def lack(share: Share, what: str, *, busy: bool) -> str | None:
    """Return in a line why a share finds no room now; None if it does, or might at any moment.

    Args:
        share: What is asked for.
        what: What asks for it, in words.
        busy: Whether to look at what others use, too.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and _chosen(share.labels, node["Labels"])]
    large = {node["NodeID"] for node in nodes if _holds(node["Resources"], share)}
    asked = _in_words(share.resources)
    if not large:
        most = {
            name: max((node["Resources"].get(name, 0) for node in nodes), default=0)
            for name in share.resources
        }
        return (
            f"no node has room: {what} asks for {asked}, and those here have at most {_in_words(most)}; "
            "waiting for others (`ray status` shows whether Ray starts some)"
        )
    free = available_resources_per_node() if busy else {}
    if busy and not any(_holds(free.get(node, {}), share) for node in large):
        return (
            f"no node has room: {what} asks for {asked}, and those with as much are in use; waiting for them"
        )
    return None


def idle_gpus(config: SearchConfig, nodes: Iterable[Node]) -> str | None:
    """Return a line if the cluster would start GPUs and the search does not ask for any.

    Args:
        config: The settings.
        nodes: The machines of the cluster that was joined.
    """
    asked = config.placement
    given = asked.gpus_per_trial is not None or asked.gpu_memory is not None
    if given or Address.of(config.backend.address).local or any(node.gpus for node in nodes):
        return None
    types = startable_gpus(Path(_DESCRIPTION).expanduser())
    if not types:
        return None
    return (
        "no GPU is up, and this search asks for none, so it trains on CPUs: --gpus-per-trial 1 makes Ray "
        f"start {' or '.join(types)}, and 0 is without this line"
    )


def startable_gpus(description: Path) -> list[str]:
    """Return the types of nodes with GPUs that a cluster starts on demand.

    Args:
        description: The file that ``ray up`` was given, as it is on the head; elsewhere there is none.
    """
    try:
        types = yaml.safe_load(description.read_text()).get("available_node_types", {})
    except (OSError, AttributeError, yaml.YAMLError):
        return []
    return [
        name
        for name, kind in types.items()
        if (kind.get("resources") or {}).get("GPU") and kind.get("max_workers", 0)
    ]


def _holds(resources: Mapping[str, float], share: Share) -> bool:
    return all(resources.get(name, 0) >= amount for name, amount in share.resources.items())


def _chosen(selectors: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether labels satisfy selectors of the form ``in(a,b)`` or ``!in(a,b)``."""
    for name, selector in selectors.items():
        names = selector.partition("(")[2].rstrip(")").split(",")
        if (labels.get(name) in names) == selector.startswith("!"):
            return False
    return True


def _in_words(resources: Mapping[str, float]) -> str:
    words = [
        f"{format_size(amount)} of main memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in resources.items()
    ]
    return " and ".join(words)
