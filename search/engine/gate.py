"""What is known of a configuration before it is trained, against what it has to keep to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.goals.constraints import Constraint
from search.goals.objectives import known_values
from search.placement import Placement
from search.samplers.common import DEVICE_MEMORY
from search.units import GIB
from trainables.memory import MemoryPredictor, MemoryReport


@dataclass(frozen=True)
class Gate:
    """Says what a configuration breaks before it is trained.

    Attributes:
        constraints: What results must keep to.
        placement: What devices hold; None asks no device.
        cached: Whether trials take the frozen layers' output from a cache.
        filling: Bytes that filling it takes.
    """

    constraints: tuple[Constraint, ...]
    placement: Placement | None
    cached: bool
    filling: int

    @classmethod
    def of(
        cls,
        constraints: tuple[Constraint, ...],
        placement: Placement,
        predictor: MemoryPredictor,
        *,
        cached: bool,
    ) -> Gate:
        """Return a search's."""
        return cls(constraints, placement, cached, predictor.encoding_memory() if cached else 0)

    def violations(
        self, config: Mapping[str, Any], memory: MemoryReport, predictor: MemoryPredictor
    ) -> dict[str, float]:
        """Return by how much a configuration breaks what is known before training; at most 0 is kept."""
        values = known_values(memory)
        violations = {str(c): c.violation(values) for c in self.constraints if c.known}
        limit = None if self.placement is None else self.placement.limit
        if limit is not None and all(violation <= 0 for violation in violations.values()):
            violations[DEVICE_MEMORY] = (self.needed(config, predictor) - limit) / GIB
        return violations

    def needed(self, config: Mapping[str, Any], predictor: MemoryPredictor) -> int:
        """Return the bytes that a trial needs on its device, in its steps and while it fills the cache."""
        return self.needed_for(self.expected(config, predictor))

    def needed_for(self, expected: int) -> int:
        """Return the bytes that something needs on its device which holds so many at its peak."""
        assert self.placement is not None
        return self.placement.needed(max(expected, self.filling))

    def expected(self, config: Mapping[str, Any], predictor: MemoryPredictor) -> int:
        """Return the bytes of tensors a trial holds at its peak in this search, which saves what it can."""
        return predictor.predict_as_run(config, cached=self.cached).total
