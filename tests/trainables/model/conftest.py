from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.trials import PMF, Saved
from trainables.trial.export import export_model
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec


@dataclass(frozen=True)
class Trained:
    """A trial of an epoch, its model, and the rows of the test split."""

    run: TrialRun
    spec: TrialSpec
    checkpoint: Path
    folder: Path
    rows: list[dict[str, Any]]


@pytest.fixture
def trained(trial_spec, squares, tmp_path) -> Trained:
    run = TrialRun(trial_spec, PMF)
    run.epoch()
    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "model"
    checkpoint.mkdir()
    run.save(checkpoint)
    assignment = replace(PMF, checkpoint=Saved(checkpoint))
    export_model(trial_spec, assignment, folder, about={"dataset": "squares"}, card="# A model\n")
    rows = pq.read_table(squares / "test.parquet", columns=["text", "image"]).to_pylist()
    return Trained(run, trial_spec, checkpoint, folder, rows)
