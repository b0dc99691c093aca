"""The interface of a backend, which runs a search's trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from torch import Tensor

from search.config import TargetSettings
from spaces import Space, SpaceContext
from trainables.elastic import SupernetWeights
from trainables.memory import MemoryReport
from trainables.probe import Probe, Probes
from trainables.progress import Tick
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import EncoderSource
from trainables.trial.assignment import Assignment
from trainables.trial.outputs import Evaluation

#: Evaluates a trial's checkpoint on the test split. It reports progress by calling a function.
Scorer = Callable[[Assignment, Tick], Evaluation]
#: Writes the encoders that a trial has trained as a whole into a folder; returns their folders by modality.
Exporter = Callable[[Assignment, Path], dict[str, Path]]


@dataclass(frozen=True)
class Material:
    """What the trials of a search learn from, in short.

    Attributes:
        dataset: The dataset as the user named it, with absolute paths.
        fingerprint: A hash of its content.
        included: Whether it is part of this program.
        rows: Number of its rows, by split, of which a search may use some. MLflow keeps it for a fingerprint.
        modalities: Column and kind of each modality, by the modality's name.
        label: The label's column, and the task that reads it; None if there is no such column.
    """

    dataset: str
    fingerprint: str
    included: bool
    rows: Mapping[str, int]
    modalities: Mapping[str, tuple[str, str]]
    label: tuple[str, str] | None


class Modeler(Protocol):
    """Writes trained models into folders, whole or not at all; an earlier model is replaced.

    ``about`` is what a model's folder says of it, and ``card`` its card; see ``trainables.model``.
    """

    @property
    def encoders(self) -> Mapping[str, EncoderSource]:
        """The encoder of each modality."""

    @property
    def label(self) -> str:
        """The dataset's column of labels; one that is not there if the task has none."""

    def write(self, assignment: Assignment, folder: Path, *, about: Mapping[str, Any], card: str) -> None:
        """Write the model of a trial.

        Raises:
            DamagedError: If the trial's checkpoint is not what was written.
        """

    def write_probe(
        self, probe: Probe, name: str, folder: Path, *, about: Mapping[str, Any], card: str
    ) -> None:
        """Write the model of a probe, whose name is that of its method."""

    def describe(self, folder: Path, *, about: Mapping[str, Any], card: str) -> None:
        """Replace what a model's folder says of it.

        Raises:
            UserError: If it is no model.
        """


class Probing(Protocol):
    """Runs the probes of a search; it can be sent to other machines."""

    @property
    def memory(self) -> Mapping[tuple[str, ...], MemoryReport]:
        """Predicted memory of the probe of all modalities, and of each one, by the modalities."""

    @property
    def expected(self) -> int:
        """Bytes that must be free where the probes run, without filling the cache."""

    def run(self, threads: int, tick: Tick) -> Probes:
        """Run the probes.

        Args:
            threads: Number of CPU threads.
            tick: Called as work proceeds.
        """


class Provisions(Protocol):
    """What trials need on the machine on which they run; it can be sent to other machines."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and folders of this machine that hold it."""

    def lacking(self) -> list[tuple[str, str]]:
        """Return what the machine on which this is called lacks, each with what is there instead."""


class Predictor(Protocol):
    """Predicts the memory of configurations."""

    @property
    def setting(self) -> TrainingSetting:
        """The setting of a training step."""

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of modalities of a sample."""

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of an ordinary step."""

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool, target: str) -> MemoryReport:
        """Return the memory of a step as the search runs it.

        Args:
            config: The configuration.
            cached: Whether the frozen layers' output comes from a cache.
            target: Kind of device on which the search runs it.
        """

    def encoding_memory(self, target: str) -> int:
        """Return the bytes that must be free while the cache is filled.

        Args:
            target: Kind of device on which it is filled.
        """


class Prepared(Protocol):
    """A backend that is ready to run trials."""

    def trainable(self, inherited: SupernetWeights | None = None) -> Any:
        """Return the trainable for Ray Tune.

        Args:
            inherited: A supernet to take the initial weights from; None draws them at random.
        """

    @property
    def understood(self) -> tuple[str, ...]:
        """What the dataset is understood to be, in at most three lines; none if there are no data."""

    @property
    def provisions(self) -> Provisions | None:
        """What trials need on each machine; None if all of it comes with them."""

    @property
    def scorer(self) -> Scorer | None:
        """Scores a trial on the test split, on any machine; None if there are no test results."""

    @property
    def exporter(self) -> Exporter | None:
        """Writes a trial's trained encoders; None if there are no weights."""

    @property
    def modeler(self) -> Modeler | None:
        """Writes trials and probes as models; None if there are no weights."""

    def probing(self, target: str) -> Probing | None:
        """Return what runs the probes, or None if there are no data to run them on.

        Args:
            target: Kind of device on which they run.
        """


class Backend(Protocol):
    """Provides all that a search needs to run its trials."""

    @property
    def context(self) -> SpaceContext:
        """The depths and widths of the encoders, on which the space depends."""

    @property
    def predictor(self) -> Predictor:
        """Predicts memory."""

    @property
    def task(self) -> Task:
        """The task that is learnt."""

    @property
    def task_decided(self) -> str:
        """Who says that it is this task, in words."""

    @property
    def guess(self) -> Mapping[str, float]:
        """Values on the validation split without having learnt anything, by metric."""

    @property
    def untested(self) -> str | None:
        """Why no trial is scored on the test split, in words; None if trials are."""

    def labels(self, split: str) -> Tensor | None:
        """Return the labels of a split's rows, encoded by the task; None if they are not known."""

    @property
    def details(self) -> Mapping[str, Any]:
        """Resolved settings: sizes, counts and fingerprints."""

    @property
    def material(self) -> Material:
        """What the trials learn from: a dataset, or a table of recorded trials."""

    @property
    def precision(self) -> str | None:
        """The precision of all trials; None if the settings or the devices decide it."""

    def in_precision(self, precision: str) -> Backend:
        """Return the same backend with its trials and predictions in a precision."""

    def on_target(self, target: TargetSettings) -> Backend:
        """Return the same backend with its predictions for a GPU."""

    def read(self, console: Console) -> Backend:
        """Return the same backend after all data were read: it knows which rows can be used.

        Raises:
            UserError: If rows cannot be read and the settings do not say what becomes of them.
        """

    def prepare(self, space: Space, console: Console) -> Prepared:
        """Prepare everything that the trials of a space need."""
