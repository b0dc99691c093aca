"""Scores a model on data that have labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.exporting.applying import Reader, wanted_of
from search.goals.resampling import resampled
from trainables.data import Dataset, address_of, open_dataset, without_missing
from trainables.data.cells import digest
from trainables.data.table import Table, open_table
from trainables.errors import UserError
from trainables.model import ModelDescription
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings
from trainables.tasks import Task, read_task

#: Quantiles of the resamples that an interval lies between.
_LOW, _HIGH = 0.025, 0.975
#: By how much two values of a metric may differ, as a share, and still be the same but for rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Scored:
    """A metric of a model.

    Attributes:
        value: The value over all rows.
        standard_error: Its standard error, by a bootstrap over the rows; None if it is not finite.
        low: Where the 95 % interval begins; None likewise.
        high: Where it ends.
        reported: What the search has found on the same rows; None if the rows are others, or it is not known.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    reported: float | None = None

    @property
    def apart(self) -> float | None:
        """By how much it differs from what was reported, as a share if that is above 1; None if unknown."""
        if self.reported is None:
            return None
        return abs(self.value - self.reported) / max(1.0, abs(self.reported))


@dataclass(frozen=True)
class Labeled:
    """Rows with labels.

    Attributes:
        table: The rows.
        same: Whether they are the data from which the model has learnt.
    """

    table: Table
    same: bool


def open_labeled(name: str, description: ModelDescription, reading: ReadingSettings | None) -> Labeled:
    """Open data to score a model on.

    The data from which the model has learnt are read as the search has read them, with its splits. Others
    need no splits.

    Args:
        name: As in ``open_dataset``.
        description: The model.
        reading: What the user says about reading; None if nothing was said.

    Raises:
        UserError: If there are no such data, or if they lack a column.
    """
    own = description.about.get("dataset", {})
    if reading is None and own.get("reading") and address_of(name) == own.get("name"):
        dataset = _as_searched(name, own, description)
        table = Table.of(dataset)
        modalities = {modality: dataset.modalities[modality] for modality in description.inputs}
        return Labeled(replace(table, modalities=modalities), dataset.fingerprint == own.get("fingerprint"))
    has_labels = read_task(description.task).has_labels
    label = own.get("label") or "label"
    table = open_table(name, wanted_of(description), reading, label=label if has_labels else None)
    return Labeled(table, same=False)


def score(
    reader: Reader,
    splits: Sequence[str],
    progress: Callable[[int], None],
    reported: Mapping[str, float] | None = None,
) -> tuple[dict[str, Scored], int]:
    """Return the task's metrics over the rows of some splits that have labels, and the number of these rows.

    Args:
        reader: The model and the rows.
        splits: The splits.
        progress: Called with the number of rows that are done.
        reported: What the search has found on the same rows.

    Raises:
        UserError: As ``Reader.batches``; if no row has a label; or if the task does not take one.
    """
    task = reader.model.task
    outputs, labels, done = [], [], 0
    pairs: dict[str, list[bytes]] = {name: [] for name in reader.model.description.inputs}
    for split in splits:
        stored = reader.table.labels(split) if task.has_labels else []
        where = f"data '{reader.table.name}', {split} row"
        for batch in reader.batches(split):
            rows = [batch.first + row for row in batch.kept]
            known = [place for place, row in enumerate(rows) if not stored or stored[row] is not None]
            outputs.append(batch.outputs[known])
            if task.has_labels:
                labels += [task.encode([stored[rows[place]]], where, rows[place]) for place in known]
            for name, digests in pairs.items():
                digests += [digest(batch.values[place].get(name)) for place in known]
            done += len(batch.idents)
            progress(done)
    if not any(map(len, outputs)):
        raise UserError(f"data '{reader.table.name}': no row of {', '.join(splits)} can be scored")
    truth = torch.cat(labels) if task.has_labels else task.paired(pairs)
    found = torch.cat(outputs)
    return _scores(task, task.kept(found, truth), truth, reported or {}), len(found)


def _as_searched(name: str, own: Mapping[str, Any], description: ModelDescription) -> Dataset:
    """Return the dataset as the search has opened it."""
    reading = {**own["reading"]}
    missing = reading.pop("missing")
    settings = TaskSettings(**_settings(own["task_settings"]))
    dataset = open_dataset(name, settings, ReadingSettings(**_settings(reading)))
    return without_missing(dataset, description.inputs, missing)


def _settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as their classes take them, from JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}


def _scores(task: Task, kept: Tensor, labels: Tensor, reported: Mapping[str, float]) -> dict[str, Scored]:
    """Return all metrics, with what a bootstrap over the rows says of their luck."""
    scores = {}
    for name, value in task.score(kept, labels).items():
        drawn = resampled(name, [(task, kept)], labels)[1][0]
        low = high = error = None
        if len(labels) > 1 and np.isfinite(drawn).all():
            low, high = (float(each) for each in np.quantile(drawn, (_LOW, _HIGH)))
            error = float(drawn.std(ddof=1))
        scores[name] = Scored(value, error, low, high, reported.get(name))
    return scores
