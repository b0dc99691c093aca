"""The progress of a search at several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from search.records.status import UNFINISHED, Status

if TYPE_CHECKING:
    from search.records.history import History


@dataclass(frozen=True)
class Point:
    """The search's progress at a time (in seconds since 1970), after a number of finished trials."""

    time: float
    trials: int
    values: dict[str, float]

    @classmethod
    def of(cls, history: History, now: float) -> Point:
        """Count the trials and measure the front."""
        counts = Counter(record.status for record in history.trials.values())
        values = {
            "hypervolume": history.hypervolume(),
            "front_size": len(history.front()),
            "trials": counts[Status.FINISHED],
            "infeasible": len(history.infeasible),
            **{str(status): counts[status] for status in UNFINISHED},
            **{f"best.{name}": value for name, value in history.best().items()},
        }
        return cls(now, counts[Status.FINISHED], {name: float(value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the point as a JSON document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Point:
        """Return the point that ``to_dict`` described."""
        return cls(**document)
