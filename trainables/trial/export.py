"""What trials have trained as folders: models that answer, and encoders that further searches can name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainables.configuration import setting_changes, split_config
from trainables.errors import UserError
from trainables.methods import build_method
from trainables.model import Input, ModelDescription, write_model
from trainables.model.description import configuration_of
from trainables.notices import tell
from trainables.probe import Probe
from trainables.tasks import read_task
from trainables.towers import EncoderSource, load_tower, save_encoder
from trainables.trial.assignment import Assignment
from trainables.trial.checkpoint import TRIAL, WEIGHTS, check
from trainables.trial.workbench import TrialSpec, described_data


def export_model(
    spec: TrialSpec, assignment: Assignment, folder: Path, *, about: Mapping[str, Any], card: str
) -> None:
    """Write a trial's model from its checkpoint, see ``trainables.model``. No encoder is loaded.

    Args:
        spec: Settings that all trials share.
        assignment: The trial; it has a checkpoint.
        folder: The model's folder; an earlier model there is replaced.
        about: What people may want to know of the model; JSON.
        card: The text of its ``README.md``.

    Raises:
        DamagedError: If the weights are not what was written.
        UserError: If this machine lacks an encoder, or the folder cannot be written.
    """
    assert assignment.checkpoint is not None
    with assignment.checkpoint.as_directory() as checkpoint:
        check(Path(checkpoint), [WEIGHTS, TRIAL])
        weights = load_file(Path(checkpoint) / WEIGHTS)
        task = json.loads((Path(checkpoint) / TRIAL).read_text())["task"] or spec.task
    setting = replace(spec.setting, **setting_changes(assignment.config))
    setting = setting.as_run(cached=spec.feature_cache > 0)
    described = ModelDescription(
        dict(assignment.config), task, setting.to_dict(), _inputs(spec), [], dict(about)
    )
    write_model(folder, described, weights, card, spec.plugins)


def export_probe(
    spec: TrialSpec, probe: Probe, name: str, folder: Path, *, about: Mapping[str, Any], card: str
) -> None:
    """Write a probe as a model, see ``trainables.model``. No encoder is loaded.

    Args:
        spec: Settings that all trials share.
        probe: The probe.
        name: ``probe``, or ``probe:text`` for one modality.
        folder: The model's folder; an earlier model there is replaced.
        about: What people may want to know of the model; JSON.
        card: The text of its ``README.md``.

    Raises:
        UserError: If this machine lacks an encoder, or the folder cannot be written.
    """
    configuration = configuration_of(name, probe.strength, probe.poolings)
    described = ModelDescription(
        configuration, probe.task, spec.setting.to_dict(), _inputs(spec), [], dict(about)
    )
    write_model(folder, described, probe.weights, card, spec.plugins)


def _inputs(spec: TrialSpec) -> dict[str, Input]:
    """Return what models of a search read of each modality."""
    data = described_data(spec)["modalities"]
    return {
        modality: Input(
            kind=data[modality]["kind"],
            column=data[modality]["column"],
            encoder=spec.encoders[modality],
            revision=source.revision,
            fingerprint=spec.fingerprints[modality],
            pooling=spec.pooling[modality],
            facts=data[modality]["facts"],
        )
        for modality, source in spec.sources().items()
    }


def export_encoders(spec: TrialSpec, assignment: Assignment, folder: Path) -> dict[str, Path]:
    """Write the encoders that a trial has trained as a whole, each into a folder named by its modality.

    Args:
        spec: Settings that all trials share.
        assignment: The trial; it has a checkpoint.
        folder: Where to put the folders; those of an earlier call are replaced.

    Returns:
        The folders by modality; none if no whole encoder trains.

    Raises:
        DamagedError: If the weights are not what was written.
    """
    sources = spec.sources()
    trained = _trained(spec, assignment, sources)
    if not trained:
        return {}
    assert assignment.checkpoint is not None
    with assignment.checkpoint.as_directory() as checkpoint:
        check(Path(checkpoint), [WEIGHTS])
        weights = load_file(Path(checkpoint) / WEIGHTS)
    folders = {}
    for modality in sorted(trained):
        start = f"towers.{modality}."
        own = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        if not own:  # a query's encoder, which stays frozen
            continue
        shutil.rmtree(folder / modality, ignore_errors=True)
        try:
            save_encoder(sources[modality], own, folder / modality)
        except UserError as error:
            tell(str(error))
            continue
        folders[modality] = folder / modality
    return folders


def _trained(spec: TrialSpec, assignment: Assignment, sources: Mapping[str, EncoderSource]) -> frozenset[str]:
    """Return the modalities whose whole encoder trains in a configuration; no weights are loaded."""
    name, fields = split_config(assignment.config)
    task = read_task(spec.task)
    with torch.device("meta"):
        towers = {modality: load_tower(source, weights=False) for modality, source in sources.items()}
        method = build_method(name, fields, spec.setting.context(towers, task.output_size, task.query))
    return method.trained
