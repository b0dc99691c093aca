"""The gate: it checks the constraints of a configuration that are known before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.backends.base import Predictor
from search.goals.constraints import Constraint
from search.goals.objectives import known_values
from search.placement import Placement
from search.samplers.common import DEVICE_MEMORY
from search.units import GIB
from trainables.memory import MemoryReport


@dataclass(frozen=True)
class Assessment:
    """Facts about a configuration that are known before it is trained.

    Attributes:
        memory: Predicted memory.
        violations: By how much it breaks each constraint. A value <= 0 means that it is satisfied.
        expected: Memory of a trial as and where this search runs it; None if it was not needed.
    """

    memory: MemoryReport
    violations: dict[str, float]
    expected: MemoryReport | None = None

    @property
    def feasible(self) -> bool:
        """Whether the configuration satisfies every constraint and may be trained."""
        return all(violation <= 0 for violation in self.violations.values())


@dataclass(frozen=True)
class Gate:
    """Finds the constraints that a configuration breaks, before it is trained.

    Attributes:
        constraints: Constraints of the search; only those known before training are checked.
        placement: The devices and their memory; with None, no device's memory is checked.
        cached: Whether trials read the frozen layers' output from a cache.
        filling: Bytes that must be free while that cache is filled; 0 without a cache.
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
        predictor: Predictor,
        *,
        cached: bool,
    ) -> Gate:
        """Return the gate of a search."""
        filling = predictor.encoding_memory(placement.device) if cached else 0
        return cls(constraints, placement, cached, filling)

    def assess(
        self, config: Mapping[str, Any], predictor: Predictor, memory: MemoryReport | None = None
    ) -> Assessment:
        """Return the memory and the violations of a configuration that are known before training.

        Args:
            config: The configuration.
            predictor: Predicts memory.
            memory: The configuration's predicted memory; None asks the predictor.
        """
        memory = memory or predictor.predict_configuration(config)
        values = known_values(memory)
        violations = {str(c): c.violation(values) for c in self.constraints if c.known}
        limit = None if self.placement is None else self.placement.limit
        if limit is None or any(violation > 0 for violation in violations.values()):
            return Assessment(memory, violations)
        expected = self.expected(config, predictor)
        violations[DEVICE_MEMORY] = (self.needed_for(expected) - limit) / GIB
        return Assessment(memory, violations, expected)

    def needed(self, config: Mapping[str, Any], predictor: Predictor) -> int:
        """Return the bytes that a trial needs on its device, in its steps and while it fills the cache."""
        return self.needed_for(self.expected(config, predictor))

    def needed_for(self, expected: MemoryReport) -> int:
        """Return the bytes that a trial needs on its device if its steps take what is expected."""
        assert self.placement is not None
        return self.placement.needed(max(expected.memory, self.filling))

    def expected(self, config: Mapping[str, Any], predictor: Predictor) -> MemoryReport:
        """Return the memory of a trial as this search runs it, on the kind of device that it runs on."""
        assert self.placement is not None
        return predictor.predict_as_run(config, cached=self.cached, target=self.placement.device)
