"""Probes: what a linear model reaches on the pooled vectors of frozen encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables.probe.solver import STRENGTHS, solve_linear
from trainables.progress import Tick, no_tick
from trainables.tasks import Task

#: Vectors of a modality's rows, of shape (N, D), by the pooling that has read them.
Readings = Mapping[str, Tensor]

#: The strengths that are tried to find the best reading of a modality.
COARSE = STRENGTHS[1:7:2]

#: Between the names of poolings whose vectors are concatenated.
_AND = "+"


@dataclass(frozen=True)
class Probe:
    """A linear model on pooled vectors.

    Attributes:
        poolings: How each of its modalities is read; ``cls+mean`` is both vectors, concatenated.
        strength: Weight of the penalty, chosen on the validation split.
        metrics: The task's metrics on the splits ``validation`` and ``test``, if the latter has labels.
        outputs: What ``Task.kept`` returns for its outputs on these splits, of shape (N, K).
        task: ``Task.to_dict`` of the task as tuned to its outputs on validation, with which it is scored.
        weights: Its numbers by name, see ``ProbeNetwork``.
        robustness: The metrics on the test split with each modality taken away, by modality; empty if they
            were not asked for.
    """

    poolings: dict[str, str]
    strength: float
    metrics: dict[str, dict[str, float]]
    outputs: dict[str, Tensor]
    task: dict[str, Any]
    weights: dict[str, Tensor]
    robustness: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Probes:
    """The probes of a search.

    Attributes:
        joint: The probe of all modalities, read as the search's methods read them.
        single: The probe of each modality, read in the same way; empty if there is only one.
        best: The best probe of all modalities, over all poolings.
    """

    joint: Probe
    single: dict[str, Probe]
    best: Probe


def parts_of(pooling: str) -> list[str]:
    """Return the poolings whose vectors one stands for.

    >>> parts_of("cls+mean"), parts_of("last")
    (['cls', 'mean'], ['last'])
    """
    return pooling.split(_AND)


class Prober:
    """Fits probes to vectors.

    Args:
        task: The task.
        readings: The vectors, by split and modality.
        labels: The labels, by split. The test split may be left out.
        blanks: For each modality, the vectors (1, D) of a value that is missing; None finds no robustness.
        tick: Called as fitting proceeds.
        queries: The vectors of the query, by split, if the task has one. ``readings`` are then without it.
    """

    def __init__(
        self,
        task: Task,
        readings: Mapping[str, Mapping[str, Readings]],
        labels: Mapping[str, Tensor],
        blanks: Mapping[str, Readings] | None = None,
        tick: Tick = no_tick,
        queries: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._task = task
        self._queries = queries
        self._readings = readings
        self._labels = labels
        self._blanks = blanks or {}
        self._tick = tick

    def probes(self, poolings: Mapping[str, str]) -> Probes:
        """Return all probes.

        The best reading of each modality is found on its own, and then all modalities are read so. Nothing is
        chosen by the test split.

        Args:
            poolings: How the search's methods read each modality.
        """
        joint = self.probe(poolings)
        single = {modality: self.probe({modality: pooling}) for modality, pooling in poolings.items()}
        chosen = {
            modality: self._better([single[modality], *self._others(modality, pooling)]).poolings[modality]
            for modality, pooling in poolings.items()
        }
        best = joint if chosen == dict(poolings) else self._better([joint, self.probe(chosen)])
        return Probes(joint, single if len(single) > 1 else {}, best)

    def probe(self, poolings: Mapping[str, str], strengths: Sequence[float] = STRENGTHS) -> Probe:
        """Return the probe that reads some modalities by these poolings, with the best of some strengths."""

        def features(split: str, away: str | None = None) -> Tensor:
            read = self._readings[split]
            vectors = [(m, pooling) for m, names in poolings.items() for pooling in parts_of(names)]
            return torch.cat(
                [
                    self._blanks[m][pooling].expand_as(read[m][pooling]) if m == away else read[m][pooling]
                    for m, pooling in vectors
                ],
                dim=1,
            )

        queries = self._queries
        found = solve_linear(
            self._task,
            (features("train"), self._labels["train"]),
            (features("validation"), self._labels["validation"]),
            strengths,
            self._tick,
            None if queries is None else (queries["train"], queries["validation"]),
        )
        kept = {}
        for split in (split for split in self._labels if split != "train"):
            outputs = found.outputs(features(split), None if queries is None else queries[split])
            kept[split] = self._task.kept(outputs, self._labels[split])
        task = self._task.tuned(kept["validation"], self._labels["validation"])
        metrics = {split: task.score(of_rows, self._labels[split]) for split, of_rows in kept.items()}
        robustness = {}
        for modality in self._blanks:
            outputs = found.outputs(features("test", modality), None if queries is None else queries["test"])
            labels = self._labels["test"]
            robustness[modality] = task.score(self._task.kept(outputs, labels), labels)
        weights = found.state_dict()
        return Probe(dict(poolings), found.strength, metrics, kept, task.to_dict(), weights, robustness)

    def _others(self, modality: str, pooling: str) -> list[Probe]:
        """Return the probes of a modality by all poolings but this one, and by [CLS] and mean together."""
        names = list(self._readings["train"][modality])
        if {"cls", "mean"} <= set(names):
            names.append(f"cls{_AND}mean")
        return [self.probe({modality: name}, COARSE) for name in names if name != pooling]

    def _better(self, probes: Sequence[Probe]) -> Probe:
        """Return the first of the probes with the best first metric on the validation split."""
        metric = self._task.metrics[0]
        values = [probe.metrics["validation"][metric.name] for probe in probes]
        best = max(values) if metric.direction == "maximize" else min(values)
        return probes[values.index(best)]
