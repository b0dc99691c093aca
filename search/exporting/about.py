"""What a model's folder says about the model to people: where it comes from, and how good it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.exporting.commands import train_command
from search.goals.objectives import Objective, known_values
from search.goals.quantities import quantity_of
from search.records import versions
from search.records.history import PROBE, TrialRecord
from search.setup import Setup
from trainables.towers import EncoderSource
from trainables.towers.bag_of_words import PREFIX
from trainables.towers.bundled import BUNDLED

#: Settings of a search's steps that a card shows, by their names for people.
_SHOWN = ("epochs", "batch_size", "precision", "optimizer", "weight_decay", "recipe", "augment")


@dataclass(frozen=True)
class Teller:
    """Tells about the members of a search's front.

    Attributes:
        setup: The setup of the search, with its history.
        encoders: The encoder of each modality.
        label: The dataset's column of labels.
    """

    setup: Setup
    encoders: Mapping[str, EncoderSource]
    label: str

    def about(
        self, row: Mapping[str, Any], run: TrialRecord, *, place: int | None, members: int
    ) -> dict[str, Any]:
        """Return what is known of a member, as a JSON document.

        ``values``, ``test`` and ``standard_error`` are those of the configuration: means, if it was trained
        with several seeds. ``metrics`` are those of the weights themselves, by split.

        Args:
            row: The member's row, see ``front_rows``.
            run: The trial that the weights are from.
            place: Its place on the front, from 1; None if it is no member, or if that is not known yet.
            members: Number of members.
        """
        config, history, details = self.setup.config, self.setup.history, self.setup.details
        shown, trained = [objective.name for objective in history.shown], history.trained_objective
        tested = [objective.name for objective in history.shown if objective.tested]
        return {
            "search": config.run_name,
            "space": config.search.space,
            "trial_id": row["trial_id"],
            "place": place,
            "members": members,
            "run": run.trial_id,
            "checkpoint": run.checkpoint,
            "seed": run.seed,
            "seeds": row["seeds"],
            "method": row["config"]["method"],
            "objective": {"name": trained.name, "direction": trained.direction},
            "values": {name: row[name] for name in shown},
            "test": {name: row[f"test_{name}"] for name in tested},
            "metrics": self._metrics(run),
            "figures": [figures(objective, row) for objective in history.shown],
            "p_front": row["p_front"],
            "p_better": row["p_better"],
            "robustness": row["robustness"],
            "missing": self._missing(row["robustness"]),
            "probe": self._probe(row),
            "memory": memory(run),
            "target": config.step.target,
            "settings": self._settings(row["config"]),
            "dataset": {
                "name": config.data.dataset,
                "reading": {**config.reading.to_dict(), "missing": config.data.missing},
                "task_settings": {**config.task.to_dict(), "task": self.setup.backend.task.name},
                "label": self.label,
                "fingerprint": details.get("dataset.fingerprint"),
                "task": details.get("task"),
                "rows": {split: details.get(f"dataset.{split}") for split in ("train", "validation", "test")},
                "classes": details.get("dataset.classes"),
            },
            "encoders": {name: encoder_facts(self.encoders[name]) for name in self._read(row["config"])},
            "plugins": bool(config.extensions.plugins),
            "train": train_command(row["config"], config),
            "versions": versions.installed(),
            "made": time.strftime("%Y-%m-%d", time.gmtime()),
        }

    def _read(self, config: Mapping[str, Any]) -> list[str]:
        """Return the modalities of the encoders that a configuration may read: of a probe, its own."""
        probe = config["method"].partition(":")[0] == PROBE
        return [name for name in self.encoders if not probe or f"pooling.{name}" in config]

    def _metrics(self, run: TrialRecord) -> dict[str, dict[str, float]]:
        """Return the task's metrics of a trial's own weights, by split."""
        names = [metric.name for metric in self.setup.backend.task.metrics]
        validation, test = run.values, run.test
        return {
            "validation": {name: validation[name] for name in names if name in validation},
            "test": {name: test[name] for name in names if name in test},
        }

    def _missing(self, robustness: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, str]]:
        """Return what a member reaches on test without each modality, in words."""
        shown = {objective.name: objective for objective in self.setup.history.shown}
        return {
            modality: {name: in_words(shown[name], value) for name, value in values.items() if name in shown}
            for modality, values in robustness.items()
        }

    def _probe(self, row: Mapping[str, Any]) -> dict[str, str] | None:
        """Return what the probe reaches in each metric, in words; None for itself, or without one."""
        history = self.setup.history
        if PROBE not in history.probes or row["config"]["method"] == PROBE:
            return None
        probe = history.probes[PROBE]
        found = {}
        for objective in history.shown:
            values = probe.test if objective.name in probe.test else probe.values
            if objective.tested and objective.name in values:
                found[objective.name] = in_words(objective, values[objective.name])
        return found or None

    def _settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a training: those of the configuration, then those of the search."""
        own = {name: value for name, value in config.items() if name != "method"}
        if config["method"].partition(":")[0] == PROBE:
            return own
        values = self.setup.config.to_dict()
        return {**{n: values[n] for n in _SHOWN if values.get(n) is not None}, **own}


def figures(objective: Objective, row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return an objective's values in words, as a line of a table.

    Args:
        objective: The objective.
        row: The member's row, see ``front_rows``.
    """
    name, errors = objective.name, row["standard_error"]
    return {
        "name": objective.title or name,
        "value": in_words(objective, row[name], errors.get(name)),
        "test": in_words(objective, row.get(f"test_{name}"), errors.get(f"test_{name}")),
    }


def in_words(objective: Objective, value: float | None, error: float | None = None) -> str:
    """Return a value in its unit, with its standard error if that is known; empty for None."""
    if value is None:
        return ""
    if objective.unit == "%":
        return f"{100 * value:.1f}" + (" %" if error is None else f" ± {100 * error:.1f} %")
    if objective.tested or objective.value is None:
        unit = f" {objective.unit}" if objective.unit else ""
        return f"{value:.3g}" + ("" if error is None else f" ± {error:.2g}") + unit
    return quantity_of(objective).brief(value)


def memory(run: TrialRecord) -> dict[str, float]:
    """Return what is known of a member's memory, in GiB, and of its size."""
    return {**known_values(run.memory), "trainable_parameters": run.memory.trainable_parameters}


def encoder_facts(encoder: EncoderSource) -> dict[str, Any]:
    """Return which encoder it is, and what is known of its licence."""
    name = encoder.name.removeprefix(PREFIX)
    known = BUNDLED.get(name)
    return {
        "name": encoder.name,
        "kind": encoder.kind,
        "pooling": encoder.pooling,
        "revision": encoder.revision,
        "fingerprint": encoder.fingerprint(),
        "license": known.description if known else "see its own licence",
    }
