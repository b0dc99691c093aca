"""A table of recorded trials that replaces training, so that searches can be compared in seconds.

``benchmarks/record_table.py`` makes such tables. Each configuration gets the results of the nearest recorded
one, so that the whole space can be searched. Trials report only values that were once measured.
"""

from __future__ import annotations

import hashlib
import json
import os
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

from search.checkpoints import DurableTrial
from spaces import SpaceContext, get_space
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.parameters import Parameter, Range
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, Task, get_task
from trainables.trial.checkpoint import seal

#: Columns that identify the configuration of a row; columns of its memory start with ``memory.``.
_IDENTITY = ("number", "params", "config")
_MEMORY = "memory."
#: Code of a parameter that a configuration does not have: at least one range away from those that have it.
_ABSENT = -1.0


@dataclass(frozen=True)
class Recorded:
    """A configuration that was trained.

    Attributes:
        params: Values of the space's parameters.
        config: The configuration.
        memory: Predicted memory.
        epochs: The trial's report after each epoch.
    """

    params: dict[str, Any]
    config: dict[str, Any]
    memory: MemoryReport
    epochs: tuple[dict[str, float], ...]


class Neighbourhood:
    """Finds the recorded configuration of one method that is nearest to a given one.

    Numbers are scaled to their range in the space, on a logarithmic scale if the space draws them so. A
    setting that is no number adds 0 if it is equal and 1 if it is not. Distances are Euclidean. Of equally
    near configurations, the first recorded one is returned.

    Args:
        rows: The recorded configurations.
        parameters: The space's parameters by name, see ``Space.parameters``.
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
        """Return the distance to each recorded configuration, of shape (rows,)."""
        numbers = ((self._numbers - np.array(self._scaled(config))) ** 2).sum(axis=1)
        choices = (self._choices != np.array(self._chosen(config), dtype=object)).sum(axis=1)
        return np.sqrt(numbers + choices)

    def _scaled(self, config: Mapping[str, Any]) -> list[float]:
        return [_place(config.get(name), within) for name, within in self._ranges.items()]

    def _chosen(self, config: Mapping[str, Any]) -> list[str]:
        return [json.dumps(config.get(name), sort_keys=True) for name in self._names]


def _place(value: float | None, within: Range) -> float:
    """Return the place of a number in its range, 0 to 1, or the code of a missing one."""
    return _ABSENT if value is None else within.place(value)


@dataclass(frozen=True)
class ReplayTable:
    """Recorded trials of a space.

    Attributes:
        path: Path of the file.
        fingerprint: Hash of the file's content.
        space: Name of the space.
        dataset: Name of the dataset.
        task: The task that was learnt.
        guess: Values on the validation split without having learnt anything, by metric.
        context: The depths and widths of the encoders, on which the space depends.
        setting: The setting of the recorded training steps.
        epochs: Number of epochs for which every trial was trained.
        rows: The recorded trials.
        neighbourhoods: Finds the nearest recorded configuration, by method.
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
            UserError: If the file does not exist, if it is not such a table, or if its space is unknown.
        """
        if not os.path.isfile(path):  # False for a name that no file can have, too
            raise UserError(f"--replay {path}: there is no such file; benchmarks/record_table.py makes one")
        content = Path(path).read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content))
            described = json.loads(table.schema.metadata[b"paretofuse"])
            rows = _recorded(table, described["epochs"])
            depths, widths = described["depths"], described["widths"]
            setting = TrainingSetting(**{"target": "cpu", **described["setting"]})
            space, dataset = described["space"], described["dataset"]
            task, guess = get_task(described.get("task", DEFAULT_TASK)).from_record(described)
        except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"--replay {path}: is no table of recorded trials, such as benchmarks/record_table.py makes "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})"
            ) from error
        context = SpaceContext(depths, widths, described.get("kinds", {}))
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
        """Names of the numbers that trials report, without ``memory`` and ``params``."""
        return frozenset(self.rows[0].epochs[-1])

    def require(self, space: str, epochs: int, target: str) -> None:
        """Check that the table can answer a search.

        Args:
            space: Name of the space that is searched.
            epochs: Epochs of a complete trial.
            target: Target of the search's memory.

        Raises:
            UserError: If the table is of another space or target, has fewer epochs, or lacks one of the
                methods.
        """
        if space != self.space:
            raise UserError(f"--replay {self.path}: is of space '{self.space}', not of '{space}'")
        if target != self.setting.target:
            raise UserError(
                f"--replay {self.path}: its memory is for target '{self.setting.target}', not for "
                f"'{target}'; add --target {self.setting.target}"
            )
        if epochs > self.epochs:
            raise UserError(f"--epochs {epochs}: {self.path} holds {self.epochs} epochs of each trial")
        methods = {config["method"] for config in get_space(space).smallest(self.context)}
        if missing := sorted(methods - set(self.neighbourhoods)):
            raise UserError(
                f"--replay {self.path}: holds no trial of {', '.join(missing)}; record more trials"
            )

    def nearest(self, config: Mapping[str, Any]) -> Recorded:
        """Return the nearest recorded configuration of the same method, see ``Neighbourhood``.

        Raises:
            UserError: If no configuration of the method was recorded.
        """
        if config["method"] not in self.neighbourhoods:
            raise UserError(f"--replay {self.path}: holds no trial of {config['method']}; record more trials")
        return self.neighbourhoods[config["method"]].nearest(config)


def _recorded(table: pa.Table, epochs: int) -> tuple[Recorded, ...]:
    """Return the trials of a table that has one row for each epoch.

    Raises:
        KeyError: If a column is missing.
        ValueError: If a trial lacks epochs, or if there is no trial.
    """
    memory = [field.name for field in fields(MemoryReport)]
    known = {*_IDENTITY, *(_MEMORY + name for name in memory)}
    there = [name for name in memory if _MEMORY + name in table.column_names]
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
        report = MemoryReport(**{name: trial[0][_MEMORY + name] for name in there})
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
    """Replaces ``MemoryPredictor``: returns the memory that was predicted when the table was recorded."""

    table: ReplayTable

    @property
    def setting(self) -> TrainingSetting:
        """The setting of the recorded training steps."""
        return self.table.setting

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of modalities of the recorded trials, whose modalities have the names of kinds."""
        return tuple(self.table.context.depths)

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of the nearest recorded configuration."""
        return self.table.nearest(config).memory

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool, target: str) -> MemoryReport:
        """Return the same memory, because the memory of a step as a search runs it was not recorded."""
        return self.predict_configuration(config)

    def encoding_memory(self, target: str) -> int:
        """Return 0, because nothing is encoded."""
        return 0


class ReplayTrial(DurableTrial):
    """Replaces ``FusionTrial``: each step reports an epoch of a recorded trial.

    The checkpoint is a file with the number of epochs. A configuration is always answered by one recorded
    trial. With another seed it reports the same values, since any others would be invented.
    """

    def setup(
        self, config: dict[str, Any], table: ReplayTable, epochs: int | None = None, seconds: float = 0
    ) -> None:
        """Take the first configuration.

        Args:
            config: Configuration that ``ParetoSearcher`` hands out.
            table: The recorded trials.
            epochs: Epochs of a complete trial; None means all recorded epochs.
            seconds: Duration of an epoch in seconds.
        """
        self._table = table
        self._epochs = epochs or table.epochs
        self._seconds = seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration in the same process."""
        self.assign(new_config["assignment"])
        self._row = self._table.nearest(self.assignment.config)
        self._epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """Report the next epoch."""
        remark = self.resume(self._load)
        time.sleep(self._seconds)
        result = self._row.epochs[self._epoch]
        self._epoch += 1
        return {**result, **remark, "done": self._epoch >= self._epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the number of reported epochs."""
        (Path(checkpoint_dir) / "replay.json").write_text(json.dumps({"epoch": self._epoch}))
        seal(Path(checkpoint_dir))

    def _load(self, folder: Path) -> None:
        self._epoch = json.loads((folder / "replay.json").read_text())["epoch"]
