"""What a search asks of whatever runs its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console

from spaces import Space, SpaceContext
from trainables.elastic import SupernetWeights
from trainables.memory import MemoryReport
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.trial.assignment import Assignment

#: Returns the metrics on the test split of a trial's checkpoint.
Scorer = Callable[[Assignment], dict[str, float]]


class Predictor(Protocol):
    """Says what memory configurations take."""

    @property
    def setting(self) -> TrainingSetting:
        """How steps are run."""

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of an ordinary step."""

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool) -> MemoryReport:
        """Return the memory of a step as the search runs it.

        Args:
            config: The configuration.
            cached: Whether the frozen layers' output comes from a cache.
        """

    def encoding_memory(self) -> int:
        """Return the bytes that filling the cache takes."""


class Prepared(Protocol):
    """A backend that is ready to run trials."""

    def trainable(self, inherited: SupernetWeights | None = None) -> Any:
        """Return what Ray Tune runs.

        Args:
            inherited: A supernet to take the initial weights from; None draws them at random.
        """

    @property
    def scorer(self) -> Scorer | None:
        """Scores a trial on the test split; it travels to other machines. None if there is no such split."""


class Backend(Protocol):
    """What stands behind a search's trials."""

    @property
    def context(self) -> SpaceContext:
        """What the space depends on: the encoders' depths and widths."""

    @property
    def predictor(self) -> Predictor:
        """Predicts memory."""

    @property
    def task(self) -> Task:
        """What is learnt."""

    @property
    def guess(self) -> Mapping[str, float]:
        """What is reached on the validation split without having learnt anything, by metric."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What the settings stand for: sizes, counts, fingerprints."""

    def prepare(self, space: Space, console: Console) -> Prepared:
        """Make everything ready that the trials of a space need."""
