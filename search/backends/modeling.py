"""The trials and probes of a search as models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.model import read_description
from trainables.model.description import CARD
from trainables.model.folder import in_place_of, write_config
from trainables.probe import Probe
from trainables.towers import EncoderSource
from trainables.trial.assignment import Assignment
from trainables.trial.export import export_model, export_probe
from trainables.trial.workbench import TrialSpec


@dataclass(frozen=True)
class ModelsOfTraining:
    """Writes the models of a search that trains, see ``Modeler``.

    Attributes:
        spec: The settings that all trials share.
        encoders: The encoder of each modality.
        label: The dataset's column of labels.
    """

    spec: TrialSpec
    encoders: Mapping[str, EncoderSource]
    label: str

    def write(self, assignment: Assignment, folder: Path, *, about: Mapping[str, Any], card: str) -> None:
        """Write the model of a trial from its checkpoint."""
        export_model(self.spec, assignment, folder, about=about, card=card)

    def write_probe(
        self, probe: Probe, name: str, folder: Path, *, about: Mapping[str, Any], card: str
    ) -> None:
        """Write the model of a probe."""
        export_probe(self.spec, probe, name, folder, about=about, card=card)

    def describe(self, folder: Path, *, about: Mapping[str, Any], card: str) -> None:
        """Replace what a model's folder says of it."""
        described = replace(read_description(folder), about=dict(about))

        def write(made: Path) -> None:
            shutil.copytree(folder, made)
            write_config(made, described)
            (made / CARD).write_text(card, encoding="utf-8")

        in_place_of(folder, write)
