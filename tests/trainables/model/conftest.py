from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.trials import PMF, Saved
from trainables.testing.models import own_cache, raw_rows, small_spec
from trainables.trial.export import export_model
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec


@dataclass(frozen=True)
class Trained:
    """A trial of an epoch, its model, and the nine rows of the test split, some with a missing value."""

    run: TrialRun
    spec: TrialSpec
    checkpoint: Path
    folder: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    with own_cache():
        spec = small_spec("classification")
        run = TrialRun(spec, PMF)
        run.epoch()
        run.save(checkpoint)
        assignment = replace(PMF, checkpoint=Saved(checkpoint))
        export_model(spec, assignment, folder / "model", about={"dataset": "squares"}, card="# A model\n")
        return Trained(run, spec, checkpoint, folder / "model", raw_rows(spec))


@pytest.fixture
def trained(trained_once: Trained, tmp_path: Path) -> Iterator[Trained]:
    """The same for a test that may change the model's folder."""
    folder = Path(shutil.copytree(trained_once.folder, tmp_path / "model"))
    with own_cache():
        yield replace(trained_once, folder=folder)
