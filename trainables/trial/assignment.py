"""The assignment of a trial: everything that one run of it needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from trainables.memory import MemoryReport


class Checkpoint(Protocol):
    """A saved trial, local or remote. Ray's ``Checkpoint`` has this interface."""

    @property
    def path(self) -> str:
        """Path of the checkpoint, for messages."""

    def as_directory(self) -> AbstractContextManager[str]:
        """Return a context that gives the path of a local folder with the checkpoint's files."""


@dataclass(frozen=True)
class Bar:
    """What a trial must reach in its last epoch to be scored on the test split by its own worker.

    Attributes:
        metric: The metric that counts.
        at_least: Least value that passes, or None.
        at_most: Largest value that passes, or None.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def passed(self, metrics: Mapping[str, float]) -> bool:
        """Return whether a trial with these metrics is scored."""
        value = metrics[self.metric]
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A configuration with everything that one run of it needs. The searcher makes it, and the trial gets it.

    Attributes:
        config: The configuration: ``method``, ``learning_rate`` and the method's own fields.
        seed: Seed of the initial weights, of the order of samples and of dropout.
        threads: Number of CPU threads to use.
        trial_id: Name of the trial and of the folder with its files.
        leg: Number of this run of the trial, from 1. A resumed trial has the next number and a new folder.
        granted: Bytes of the device that the trial may use; None sets no limit.
        expected: Expected memory of a step on the device that the trial gets; None if unknown.
        checkpoint: The checkpoint from which to resume; None starts from the beginning.
        bar: What the trial must reach to be scored on the test split at once; None never scores it.
    """

    config: Mapping[str, Any]
    seed: int = 0
    threads: int = 1
    trial_id: str = ""
    leg: int = 1
    granted: int | None = None
    expected: MemoryReport | None = None
    checkpoint: Checkpoint | None = None
    bar: Bar | None = None

    @property
    def folder(self) -> str:
        """Name of the folder with the files of this leg."""
        return folder_name(self.trial_id, self.leg)


def folder_name(trial_id: str, leg: int) -> str:
    """Return the name of the folder with the files of a trial's leg."""
    return trial_id if leg == 1 else f"{trial_id}.{leg}"
