"""A backend that replays recorded trials and trains nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune
from rich.console import Console

from search.backends.base import Material
from search.config import SearchConfig, TargetSettings
from search.goals.constraints import objectives_read
from search.goals.objectives import known_values
from search.replay import ReplayPredictor, ReplayTable, ReplayTrial
from spaces import Space, SpaceContext
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.tasks import Task


@dataclass(frozen=True)
class ReplayBackend:
    """A backend whose trials report recorded results. It needs no preparation.

    Attributes:
        config: The search's settings.
        table: The recorded trials.
    """

    config: SearchConfig
    table: ReplayTable

    @classmethod
    def of(cls, config: SearchConfig) -> ReplayBackend:
        """Read the table that the settings name.

        Raises:
            UserError: If there is none, or if it lacks results that the search needs.
        """
        table = ReplayTable.read(config.backend.replay or "")
        table.require(config.search.space, config.trial.epochs, config.step.target)
        held = table.metrics | set(known_values(table.rows[0].memory))
        names, constraints = config.search.objectives, config.search.all_constraints
        for objective in objectives_read(names, constraints, table.task):
            if objective.name not in held:
                raise UserError(f"--replay {table.path}: does not hold the objective '{objective.name}'")
        return cls(config, table)

    @property
    def context(self) -> SpaceContext:
        """The depths and widths of the encoders when the table was recorded."""
        return self.table.context

    @property
    def predictor(self) -> ReplayPredictor:
        """Returns the memory that was predicted when the table was recorded."""
        return ReplayPredictor(self.table)

    @property
    def task(self) -> Task:
        """The task of the recorded trials."""
        return self.table.task

    @property
    def task_decided(self) -> str:
        """The table says so."""
        return "as recorded"

    @property
    def guess(self) -> Mapping[str, float]:
        """Values without having learnt anything, when the table was recorded."""
        return self.table.guess

    @property
    def untested(self) -> str:
        """Results on the test split were not recorded."""
        return "results on it were not recorded"

    def labels(self, split: str) -> None:
        """Return None: outputs, for which labels would be needed, were not recorded."""

    @property
    def details(self) -> Mapping[str, Any]:
        """The table's fingerprint, and facts about its task."""
        described = {f"dataset.{name}": value for name, value in self.table.task.summary().items()}
        return {"replay.fingerprint": self.table.fingerprint, **described}

    @property
    def material(self) -> Material:
        """The table of recorded trials, which has no columns of modalities."""
        path, count = os.path.abspath(self.table.path), len(self.table.rows)
        return Material(path, self.table.fingerprint, False, {"recorded": count}, {}, None)

    @property
    def precision(self) -> str:
        """The precision in which the trials were recorded."""
        return self.table.setting.precision

    def in_precision(self, precision: str) -> ReplayBackend:
        """Return this backend itself: its results are recorded."""
        return self

    def on_target(self, target: TargetSettings) -> ReplayBackend:
        """Return this backend itself: its memory is recorded."""
        return self

    def read(self, console: Console) -> ReplayBackend:
        """Return this backend itself: there are no data."""
        return self

    def prepare(self, space: Space, console: Console) -> ReplayBackend:
        """Return this backend itself: there is nothing to prepare."""
        return self

    def trainable(self, inherited: SupernetWeights | None = None) -> Any:
        """Return the trainable that reports recorded trials; ``inherited`` is not used."""
        return tune.with_parameters(
            ReplayTrial,
            table=self.table,
            epochs=self.config.trial.epochs,
            seconds=self.config.backend.replay_seconds,
        )

    @property
    def understood(self) -> tuple[()]:
        """No line: there are no data."""
        return ()

    @property
    def provisions(self) -> None:
        """None: the table comes with each trial."""
        return None

    @property
    def scorer(self) -> None:
        """None: results on the test split were not recorded."""
        return None

    @property
    def exporter(self) -> None:
        """None: weights were not recorded."""
        return None

    @property
    def modeler(self) -> None:
        """None: weights were not recorded."""
        return None

    def probing(self, target: str) -> None:
        """Return None: there are no data."""
