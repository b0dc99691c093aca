"""The registry of the kinds of clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search.launching.plan import Plan
from search.launching.settings import ClusterSettings
from trainables.registry import Registry

#: Makes the plan from the settings of the cluster and the options of the search, which were checked. Without
#: options there is no search: the plan starts the cluster alone.
Planner = Callable[[Any, tuple[str, ...]], Plan]


@dataclass(frozen=True)
class Kind:
    """A kind of cluster.

    Attributes:
        name: Name of its command.
        settings: The settings that it takes; with their defaults they make a valid plan.
        plan: Makes the plan.
        alone: Whether the cluster can be started without a search.
    """

    name: str
    settings: type[ClusterSettings]
    plan: Planner
    alone: bool = True

    @property
    def description(self) -> str:
        """What the command does, which is the docstring of the planner."""
        return self.plan.__doc__ or ""


KINDS: Registry[Kind] = Registry("kind of cluster")


def register_kind(
    name: str, settings: type[ClusterSettings], *, alone: bool = True
) -> Callable[[Planner], Planner]:
    """Return a decorator that registers the planner of a kind of cluster.

    Args:
        name: Name of the command ``launch NAME``. The docstring of the planner is its help text.
        settings: The settings that it takes.
        alone: Whether the cluster can be started without a search. A job of a batch system is one search.
    """

    def register(plan: Planner) -> Planner:
        KINDS.register(name, Kind(name, settings, plan, alone), plan.__module__)
        return plan

    return register
