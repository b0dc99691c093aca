"""A table of recorded trials that stands in for training, so that searches are compared in seconds.

``benchmarks/record_table.py`` makes such tables. A configuration is answered by the recorded one that is
nearest to it, so that the whole space can be searched; what a trial reports is what was once measured.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray import tune

from spaces import SpaceContext, get_space
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.parameters import Parameter, Range
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, Task, get_task
from trainables.trial.assignment import Assignment

#: Columns that say which configuration a row is of; those of its memory start with ``memory.``.
_IDENTITY = ("number", "params", "config")
_MEMORY = "memory."
#: Where a parameter lies that a configuration does not have: a range or more away from those that have it.
_ABSENT = -1.0


@dataclass(frozen=True)
class Recorded:
    """A configuration that was trained.

    Attributes:
        params: Values of the space's parameters.
        config: The configuration.
        memory: Its predicted memory.
        epochs: What the trial reported after each epoch.
    """

    params: dict[str, Any]
    config: dict[str, Any]
    memory: MemoryReport
    epochs: tuple[dict[str, float], ...]


class Neighbourhood:
    """Finds the recorded configuration of one method that is nearest to another one.

    Numbers are scaled to their range in the space, logarithmically where the space draws them so; whatever
    is no number counts 0 where it is equal and 1 where it is not. Distances are Euclidean, and of equally
    near ones the first recorded answers.

    Args:
        rows: The recorded configurations.
        parameters: The space's by name, as ``Space.parameters`` gives them.
    """

    def __init__(self, rows: Sequence[Recorded], parameters: Mapping[str, Parameter]) -> None:
        self.rows = rows
        names = sorted({name for row in rows for name in row.config})
        asked = {name: parameters.get(name) for name in names}
        self._ranges = {name: found for name, found in asked.items() if isinstance(found, Range)}
        self._names = [name for name in names if name not in self._ranges]
        self._numbers = np.array([self._scaled(row.config) for row in rows])
        self._choices = np.array([self._chosen(row.config) for row in rows], dtype=object)

    def nearest(self, config: Mapping[str, Any]) -> Recorded:
        """Return the nearest configuration; one that was recorded is nearest to itself."""
        return self.rows[int(self.distances(config).argmin())]

    def distances(self, config: Mapping[str, Any]) -> np.ndarray:
        """Return the distance to each of the recorded configurations."""
        numbers = ((self._numbers - np.array(self._scaled(config))) ** 2).sum(axis=1)
        choices = (self._choices != np.array(self._chosen(config), dtype=object)).sum(axis=1)
        return np.sqrt(numbers + choices)

    def _scaled(self, config: Mapping[str, Any]) -> list[float]:
        return [_place(config.get(name), within) for name, within in self._ranges.items()]

    def _chosen(self, config: Mapping[str, Any]) -> list[str]:
        return [json.dumps(config.get(name), sort_keys=True) for name in self._names]


def _place(value: float | None, within: Range) -> float:
    """Where in its range a number lies, 0 to 1, or where one that is missing does."""
    return _ABSENT if value is None else within.place(value)


@dataclass(frozen=True)
class ReplayTable:
    """Recorded trials of a space.

    Attributes:
        path: The file.
        fingerprint: Hash of its content.
        space: Name of the space.
        dataset: Name of the dataset.
        task: What is learnt.
        guess: What is reached on the validation split without having learnt anything, by metric.
        context: What the space depends on.
        setting: How steps were run.
        epochs: Epochs that every trial was trained.
        rows: The trials.
        neighbourhoods: Finds the nearest of a method.
    """

    path: str
    fingerprint: str
    space: str
    dataset: str
    task: Task
    guess: Mapping[str, float]
    context: SpaceContext
    setting: TrainingSetting
    epochs: int
    rows: tuple[Recorded, ...]
    neighbourhoods: Mapping[str, Neighbourhood]

    @classmethod
    def read(cls, path: str | Path) -> ReplayTable:
        """Read a table.

        Raises:
            UserError: If there is no such file, if it is no such table, or if its space is unknown.
        """
        if not Path(path).is_file():
            raise UserError(f"--replay {path}: there is no such file; benchmarks/record_table.py makes one")
        content = Path(path).read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content))
            described = json.loads(table.schema.metadata[b"paretofuse"])
            rows = _recorded(table, described["epochs"])
            depths, widths = described["depths"], described["widths"]
            setting = TrainingSetting(**described["setting"])
            space, dataset = described["space"], described["dataset"]
            task, guess = get_task(described.get("task", DEFAULT_TASK)).from_record(described)
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"--replay {path}: is no table of recorded trials, such as benchmarks/record_table.py makes "
                f"({type(error).__name__}: {str(error).splitlines()[0][:200]})"
            ) from error
        context = SpaceContext(depths, widths)
        return cls(
            path=str(path),
            fingerprint=hashlib.sha256(content).hexdigest()[:16],
            space=space,
            dataset=dataset,
            task=task,
            guess=guess,
            context=context,
            setting=setting,
            epochs=described["epochs"],
            rows=rows,
            neighbourhoods=_by_method(rows, space, context),
        )

    @cached_property
    def metrics(self) -> frozenset[str]:
        """Names of what trials report, beside ``memory`` and ``params``."""
        return frozenset(self.rows[0].epochs[-1])

    def require(self, space: str, epochs: int) -> None:
        """Refuse a search that the table cannot answer.

        Args:
            space: Name of the space that is searched.
            epochs: Epochs of a complete trial.

        Raises:
            UserError: If the table is of another space, of fewer epochs, or without one of the methods.
        """
        if space != self.space:
            raise UserError(f"--replay {self.path}: is of space '{self.space}', not of '{space}'")
        if epochs > self.epochs:
            raise UserError(f"--epochs {epochs}: {self.path} holds {self.epochs} epochs of each trial")
        methods = {config["method"] for config in get_space(space).smallest(self.context)}
        if missing := sorted(methods - set(self.neighbourhoods)):
            raise UserError(
                f"--replay {self.path}: holds no trial of {', '.join(missing)}; record more trials"
            )

    def nearest(self, config: Mapping[str, Any]) -> Recorded:
        """Return the recorded configuration of the same method that is nearest, see ``Neighbourhood``.

        Raises:
            UserError: If none of the method was recorded.
        """
        if config["method"] not in self.neighbourhoods:
            raise UserError(f"--replay {self.path}: holds no trial of {config['method']}; record more trials")
        return self.neighbourhoods[config["method"]].nearest(config)


def _recorded(table: pa.Table, epochs: int) -> tuple[Recorded, ...]:
    """The trials of a table with a row an epoch.

    Raises:
        KeyError: If a column is missing.
        ValueError: If a trial has not all epochs, or there is none.
    """
    memory = [field.name for field in fields(MemoryReport)]
    known = {*_IDENTITY, *(_MEMORY + name for name in memory)}
    trials: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        trials[row["number"]].append(row)
    rows = []
    for number, trial in sorted(trials.items()):
        reported = [
            {name: value for name, value in row.items() if name not in known and value is not None}
            for row in trial
        ]
        if [row["epoch"] for row in reported] != list(range(1, epochs + 1)):
            raise ValueError(f"trial {number} has not the epochs 1 to {epochs}")
        report = MemoryReport(**{name: trial[0][_MEMORY + name] for name in memory})
        params, config = (json.loads(trial[0][name]) for name in ("params", "config"))
        rows.append(Recorded(params, config, report, tuple(reported)))
    if not rows:
        raise ValueError("there is no trial")
    return tuple(rows)


def _by_method(rows: Sequence[Recorded], name: str, context: SpaceContext) -> dict[str, Neighbourhood]:
    space = get_space(name)
    parts = {part.method: part for part in space.parts()} if space.parts else {}
    trials: dict[str, list[Recorded]] = defaultdict(list)
    for row in rows:
        trials[row.config["method"]].append(row)
    return {
        method: Neighbourhood(of_method, parts.get(method, space).parameters(context))
        for method, of_method in trials.items()
    }


@dataclass(frozen=True)
class ReplayPredictor:
    """Memory as it was predicted when the table was recorded, in the place of ``MemoryPredictor``."""

    table: ReplayTable

    @property
    def setting(self) -> TrainingSetting:
        """How steps were run."""
        return self.table.setting

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of the nearest recorded configuration."""
        return self.table.nearest(config).memory

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool) -> MemoryReport:
        """Return the same: how much less a search holds was not recorded."""
        return self.predict_configuration(config)

    def encoding_memory(self) -> int:
        """Return 0: nothing is encoded."""
        return 0


class ReplayTrial(tune.Trainable):
    """Reports what a recorded trial reported, an epoch a step, in the place of ``FusionTrial``.

    Its checkpoint is a file with the number of epochs. A configuration is only ever answered by one recorded
    training: with another seed it reports the same, as any other value would be made up.
    """

    def setup(
        self, config: dict[str, Any], table: ReplayTable, epochs: int | None = None, seconds: float = 0
    ) -> None:
        """Take the first configuration.

        Args:
            config: As ``ParetoSearcher`` hands it out.
            table: The recorded trials.
            epochs: Epochs of a complete trial; None is all that were recorded.
            seconds: How long an epoch takes.
        """
        self._table = table
        self._epochs = epochs or table.epochs
        self._seconds = seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration in the same process."""
        assignment: Assignment = new_config["assignment"]
        self._row = self._table.nearest(assignment.config)
        self._epoch = 0
        if assignment.checkpoint is not None:
            with assignment.checkpoint.as_directory() as folder:
                self.load_checkpoint(folder)
        return True

    def step(self) -> dict[str, Any]:
        """Report the next epoch."""
        time.sleep(self._seconds)
        result = self._row.epochs[self._epoch]
        self._epoch += 1
        return {**result, "done": self._epoch >= self._epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write how far it is."""
        (Path(checkpoint_dir) / "replay.json").write_text(json.dumps({"epoch": self._epoch}))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on from there."""
        self._epoch = json.loads((Path(checkpoint) / "replay.json").read_text())["epoch"]
