"""The data of a search, as far as a report can have them: labels, and the values of some rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.backends.base import Backend
from search.backends.training import TrainingBackend
from search.config import SearchConfig
from trainables.cache import cache_dir, ready
from trainables.cache.entries import entries_of
from trainables.data import Dataset, PreparedData, bad_rows_as, open_dataset, without_missing
from trainables.data.files import some_of
from trainables.data.kinds import Content
from trainables.errors import UserError
from trainables.tasks import Task
from trainables.trial.outputs import kept_rows


@dataclass(frozen=True)
class Value:
    """The value of a modality in a row: its kind, and its content as the dataset has it."""

    kind: str
    content: Content


@dataclass
class ReportData:
    """Labels and rows of the splits, from prepared data in the cache or else from the dataset itself.

    Attributes:
        task: The task, which encodes labels.
        modalities: The modalities in use.
        lacking: Why neither labels nor rows are there, or may not be; empty if they are.
    """

    task: Task
    modalities: Sequence[str]
    lacking: str = ""
    _config: SearchConfig | None = None
    _fingerprint: str | None = None
    _dataset: Dataset | None = None
    _prepared: PreparedData | None = None
    _labels: dict[str, Tensor | None] = field(default_factory=dict)

    @classmethod
    def of_backend(cls, backend: Backend, task: Task) -> ReportData:
        """Return the data of a search that this process has run."""
        if not isinstance(backend, TrainingBackend):
            return cls(task, (), "recorded trials have no outputs")
        found = cls(task, tuple(backend.encoders), _config=backend.config)
        found._dataset, found._prepared = backend.dataset, backend.data
        return found

    @classmethod
    def of_settings(cls, config: SearchConfig, task: Task, facts: Mapping[str, Any]) -> ReportData:
        """Return the data of a search that is recorded.

        Args:
            config: The settings of the search.
            task: Its task.
            facts: Its resolved settings.
        """
        keys = [key.split(".") for key in facts if key.startswith("encoder.")]
        modalities = tuple(key[1] for key in keys if key[-1] == "fingerprint")
        if config.backend.replay or not modalities:
            return cls(task, (), "recorded trials have no outputs")
        return cls(task, modalities, _config=config, _fingerprint=facts.get("dataset.fingerprint"))

    def labels(self, split: str) -> Tensor | None:
        """Return the labels of a split's rows; None if they are not at hand."""
        if split not in self._labels:
            self._labels[split] = self._read(split)
        return self._labels[split]

    def kept_labels(self, split: str) -> Tensor | None:
        """Return the labels of those rows of a split whose outputs a search keeps; None likewise."""
        labels = self.labels(split)
        return None if labels is None else labels[kept_rows(len(labels), self.task.kept_size)]

    def values(self, split: str, rows: Sequence[int]) -> list[dict[str, Value]]:
        """Return the values of some rows of a split by modality, in the order of the rows.

        Args:
            split: Name of the split.
            rows: Numbers of the rows, as labels and outputs count them.

        Raises:
            UserError: If the dataset is not there, or is another one by now.
        """
        dataset = self.dataset
        numbers = self._numbers(dataset, split)
        of_dataset = np.array([numbers[row] for row in rows])
        order = np.argsort(of_dataset)
        some = some_of(dataset.rows, {split: of_dataset[order]}, {})
        used = {modality: dataset.modalities[modality] for modality in self.modalities}
        found: list[dict[str, Value]] = []
        for batch in some.batches(split, [where.column for where in used.values()], 512):
            columns = {modality: dataset.contents(modality, batch) for modality in used}
            found += [
                {modality: Value(used[modality].kind, columns[modality][place]) for modality in used}
                for place in range(batch.num_rows)
            ]
        return [found[place] for place in np.argsort(order)]

    @property
    def background(self) -> str:
        """The color on which transparent pictures are laid."""
        return self._config.reading.background if self._config else "white"

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, opened as the search has opened it.

        Raises:
            UserError: If it is not there, or is another one by now.
        """
        if self._config is None:
            raise UserError(self.lacking)
        if self._dataset is not None:
            return self._dataset
        data, task = self._config.data, self._config.task
        settings = replace(task, task=type(self.task).name)
        dataset = open_dataset(data.dataset, settings, self._config.reading)
        dataset.require(self.modalities)
        dataset = without_missing(dataset, self.modalities, data.missing)
        if not self._is_same(dataset):
            raise UserError(f"dataset '{dataset.name}': has changed since the search")
        return dataset

    @cached_property
    def prepared(self) -> PreparedData | None:
        """Data in the cache that were prepared from the same dataset, whatever their sizes."""
        if self._prepared is not None or self._config is None:
            return self._prepared
        encoding = json.loads(json.dumps(self.task.encoding()))
        how = bad_rows_as(self._config.reading.bad_rows, self._config.data.missing)
        for entry in entries_of(cache_dir() / "prepared"):
            try:
                info = json.loads((entry / "prepared.json").read_text())
            except (OSError, ValueError):
                continue
            same = info.get("dataset") == self._fingerprint and {*info["modalities"]} == {*self.modalities}
            if same and all(info.get(key) == value for key, value in encoding.items()) and ready(entry):
                return PreparedData(entry, bad_rows=how)
        return None

    def _read(self, split: str) -> Tensor | None:
        try:
            if self.prepared is not None:
                data = self.prepared
                return data.split(split).labels if data.has_labels(split) else None
            dataset = self.dataset
            if split not in dataset.labeled or self._config is None:
                return None
            if self._config.reading.bad_rows != "error":
                self.lacking = "which rows can be read is not known without the data in the cache"
                return None
            return dataset.labels(split, self.modalities)
        except UserError as error:
            self.lacking = str(error)
            return None

    def _numbers(self, dataset: Dataset, split: str) -> Sequence[int]:
        """Return the number in the dataset of each row of a split that is used."""
        every = range(dataset.count(split))
        if self.prepared is None or self.prepared.bad_rows != "skip":
            return every
        bad = {found.row for found in self.prepared.bad if found.split == split}
        return [row for row in every if row not in bad]

    def _is_same(self, dataset: Dataset) -> bool:
        """Return whether a dataset is the one of the search.

        Its labels tell, if those of the search are at hand: to read all pictures again would take long.
        """
        if dataset.task.encoding() != self.task.encoding():
            return False
        data = self.prepared
        if data is None or not self.task.has_labels:
            return dataset.fingerprint == self._fingerprint
        for split in ("validation", "test"):
            if not data.has_labels(split) or split not in dataset.labeled:
                continue
            there, rows = dataset.labels(split), self._numbers(dataset, split)
            if not torch.equal(data.split(split).labels, there[torch.tensor(rows)]):
                return False
        return True
