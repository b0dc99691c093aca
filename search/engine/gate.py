"""The gate: it checks the constraints of a configuration that are known before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from search.backends.base import Predictor
from search.goals.constraints import Constraint
from search.goals.objectives import known_values
from search.placement import Placement
from search.samplers.common import DEVICE_MEMORY
from search.setup import Setup
from search.units import GIB
from trainables.memory import MemoryReport
from trainables.probe import start_memory
from trainables.tasks import Task


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
class HeadStart:
    """How heads start; from the probe, that may take more memory than the steps that follow.

    Attributes:
        kind: ``head_start`` of configurations that state none.
        rows: Number of rows of each split.
        task: The task.
    """

    kind: str
    rows: Mapping[str, int]
    task: Task

    @classmethod
    def of(cls, setup: Setup) -> HeadStart | None:
        """Return how heads start in trials from new weights; None if there are no data to train on."""
        rows = {split: setup.details.get(f"dataset.{split}", 0) for split in ("train", "validation")}
        if not all(rows.values()):
            return None
        return cls(setup.config.recipe.head_start, rows, setup.backend.task)

    @classmethod
    def of_trials(cls, setup: Setup) -> HeadStart | None:
        """Return how the heads of a search's trials start; None if trials inherit weights, too."""
        search, oneshot = setup.config.search, setup.config.oneshot
        return cls.of(setup) if search.strategy == "trials" or oneshot.from_scratch else None

    def needed(self, config: Mapping[str, Any], expected: MemoryReport) -> int:
        """Return the bytes that a trial on a CPU takes while its head starts.

        Args:
            config: The configuration.
            expected: Memory of the trial's steps.
        """
        kind = config.get("head_start", self.kind)
        return start_memory(expected, self.rows, self.task) if kind == "probe" else 0


@dataclass(frozen=True)
class Gate:
    """Finds the constraints that a configuration breaks, before it is trained.

    Attributes:
        constraints: Constraints of the search; only those known before training are checked.
        placement: The devices and their memory; with None, no device's memory is checked.
        cached: Whether trials read the frozen layers' output from a cache.
        filling: Bytes that must be free while that cache is filled; 0 without a cache.
        head_start: How heads start; None if they inherit weights, and on GPUs, because heads start in main
            memory.
    """

    constraints: tuple[Constraint, ...]
    placement: Placement | None
    cached: bool
    filling: int
    head_start: HeadStart | None = None

    @classmethod
    def of(
        cls,
        constraints: tuple[Constraint, ...],
        placement: Placement,
        predictor: Predictor,
        *,
        cached: bool,
        head_start: HeadStart | None = None,
    ) -> Gate:
        """Return a gate that knows what filling the cache takes on the devices of a placement."""
        filling = predictor.encoding_memory(placement.device) if cached else 0
        return cls(constraints, placement, cached, filling).starting(head_start)

    @classmethod
    def of_trials(cls, setup: Setup, placement: Placement) -> Gate:
        """Return the gate of a search's trials on the devices of a placement."""
        return cls.of(
            setup.history.constraints,
            placement,
            setup.predictor,
            cached=setup.config.trial.feature_cache,
            head_start=HeadStart.of_trials(setup),
        )

    def starting(self, head_start: HeadStart | None) -> Gate:
        """Return the gate of trials whose heads start so."""
        on_cpu = self.placement is not None and self.placement.device == "cpu"
        return replace(self, head_start=head_start if on_cpu else None)

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
        violations[DEVICE_MEMORY] = (self.needed_for(config, expected) - limit) / GIB
        return Assessment(memory, violations, expected)

    def needed(self, config: Mapping[str, Any], predictor: Predictor) -> int:
        """Return the bytes that a trial needs on its device: for the cache, its head's start or its steps."""
        return self.needed_for(config, self.expected(config, predictor))

    def needed_for(self, config: Mapping[str, Any], expected: MemoryReport) -> int:
        """Return the bytes that a trial needs on its device if its steps take what is expected."""
        assert self.placement is not None
        steps = self.placement.needed(max(expected.memory, self.filling))
        return max(steps, self.needed_to_start(config, expected))

    def needed_to_start(self, config: Mapping[str, Any], expected: MemoryReport) -> int:
        """Return the bytes that a trial needs on its device while its head starts, if that takes any."""
        assert self.placement is not None
        starting = self.head_start.needed(config, expected) if self.head_start else 0
        return self.placement.needed(starting) if starting else 0

    def expected(self, config: Mapping[str, Any], predictor: Predictor) -> MemoryReport:
        """Return the memory of a trial as this search runs it, on the kind of device that it runs on."""
        assert self.placement is not None
        return predictor.predict_as_run(config, cached=self.cached, target=self.placement.device)
