"""What one run of a trial needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Checkpoint(Protocol):
    """A saved trial, wherever it lies: Ray's ``Checkpoint`` is one."""

    def as_directory(self) -> AbstractContextManager[str]:
        """Return a context that gives the path of a local folder with the checkpoint's files."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A configuration with all that one run of it needs. What the searcher hands out is what the trial gets.

    Attributes:
        config: The configuration: ``method``, ``learning_rate`` and the method's own fields.
        seed: Seed of the initial weights, of the order of samples and of dropout.
        threads: CPU threads to use.
        trial_id: Name of the trial. It names the folder with the trial's files.
        leg: How often the trial was handed out, this time included. Each leg has a folder of its own.
        granted: Bytes of the device that the trial may use; None sets no limit.
        expected: Bytes of tensors that a step is expected to hold at its peak; None if nobody knows.
        checkpoint: Where to go on from; None starts anew.
    """

    config: Mapping[str, Any]
    seed: int = 0
    threads: int = 1
    trial_id: str = ""
    leg: int = 1
    granted: int | None = None
    expected: int | None = None
    checkpoint: Checkpoint | None = None

    @property
    def folder(self) -> str:
        """Name of the folder with the files of this leg."""
        return folder_name(self.trial_id, self.leg)


def folder_name(trial_id: str, leg: int) -> str:
    """Return the name of the folder with the files of a trial's leg."""
    return trial_id if leg == 1 else f"{trial_id}.{leg}"
