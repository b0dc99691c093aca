"""A tiny model's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.trials import PMF, Saved
from trainables.trial.export import export_model
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec


def exported(spec: TrialSpec, folder: Path) -> Path:
    """Train a trial for one epoch, and write its model."""
    run, checkpoint = TrialRun(spec, PMF), folder.parent / "checkpoint"
    run.epoch()
    checkpoint.mkdir(parents=True)
    run.save(checkpoint)
    assignment = replace(PMF, checkpoint=Saved(checkpoint))
    export_model(spec, assignment, folder, about={"trial_id": "trial-000"}, card="# A model\n")
    return folder
