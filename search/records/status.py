"""The status of a trial, and the ending of one without a result: workers report it, the history reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """The status of a trial. Each member equals its text, which stores and documents hold."""

    #: It was handed out and has not ended.
    RUNNING = "running"
    #: The rule paused it in favour of other trials; it may be resumed later.
    PAUSED = "paused"
    #: It was running or paused when the search ended, or a rule stopped it.
    STOPPED = "stopped"
    #: It trained all epochs.
    FINISHED = "finished"
    #: Memory ran out.
    OUT_OF_MEMORY = "out_of_memory"
    #: A loss or a metric became infinite or not a number.
    DIVERGED = "diverged"
    #: It ended in errors, or its worker died, more often than it may be restarted.
    FAILED = "failed"
    #: Memory ran out beside other trials, and its configuration was handed out once more.
    RETRIED = "retried"
    #: A user's mistake, such as a dataset that its node lacks, kept it from running. It has no result, and
    #: goes on elsewhere, or when the search is resumed.
    SET_ASIDE = "set_aside"

    @property
    def words(self) -> str:
        """The status as a person writes it."""
        return self.value.replace("_", " ")


#: Statuses of trials that ended by themselves without a result.
UNFINISHED = (Status.OUT_OF_MEMORY, Status.DIVERGED, Status.FAILED)


@dataclass(frozen=True)
class Ending:
    """How a trial ended that has no result.

    Attributes:
        status: ``OUT_OF_MEMORY``, ``DIVERGED`` or ``SET_ASIDE``.
        stage: Where it ended: ``building``, ``training``, ``validation`` or ``checkpoint``; empty if unknown,
            or of no interest.
        message: The first line of the error.
        below_share: Whether the trial had less memory than it was granted, because other trials took too
            much; None if that is unknown.
    """

    status: Status
    stage: str
    message: str
    below_share: bool | None = None

    @property
    def sentence(self) -> str:
        """What happened, where and why, in one line."""
        where = f" ({self.stage})" if self.stage else ""
        return f"{self.status.words}{where}: {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a JSON document."""
        return asdict(self)

    def to_result(self) -> dict[str, Any]:
        """Return the trial's last result for Ray Tune."""
        return {**self.to_dict(), "done": True}

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Ending | None:
        """Return the ending that a trial reported; None if the result is that of an epoch."""
        return cls.from_dict(result) if "status" in result else None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Ending:
        """Return the ending that ``to_dict`` described."""
        stage, message, below_share = (document[name] for name in ("stage", "message", "below_share"))
        return cls(Status(document["status"]), stage, message, below_share)
