"""What the searcher hands out is what the trial gets, field by field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from search.backends import trainable
from search.backends.trainable import FusionTrial
from tests.trials import PMF, Saved
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec


class Reached:
    """A trial as Ray Tune makes one, without the object store, and what can be seen of it."""

    def __init__(self, spec: TrialSpec, assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
        class Trial(FusionTrial):
            def setup(self, config: dict[str, Any], **_: Any) -> None:
                super().setup(config, spec=spec)

        granted: list[int | None] = []
        monkeypatch.setattr(trainable, "limit_memory", granted.append)
        self.trainable = Trial({"assignment": assignment})
        self.result = self.trainable.step()
        self.seen = {
            "config": self.trainable._run.method.trainable_parameter_count(),
            "seed": (self.result["train_loss"], self.result["loss"]),
            "threads": torch.get_num_threads(),
            "granted": granted,
            "expected": self.result.get("expected_memory"),
            "checkpoint": self.result["epoch"],
            "trial_id": assignment.folder,
            "leg": assignment.folder,
        }


@pytest.fixture
def changes(trial_spec, tmp_path) -> dict[str, Any]:
    """Another value of each field."""
    run = TrialRun(trial_spec, PMF)
    run.epoch()
    run.save(tmp_path)
    return {
        "config": {**PMF.config, "n_fusion_layers": 1},
        "seed": 1,
        "threads": 2,
        "granted": 2**30,
        "expected": 2**20,
        "checkpoint": Saved(tmp_path),
        "trial_id": "trial-007",
        "leg": 2,
    }


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Assignment)])
def test_every_field_changes_what_it_should(trial_spec, changes, name, monkeypatch) -> None:
    assigned = dataclasses.replace(PMF, trial_id="trial-000")
    threads = torch.get_num_threads()
    try:
        before = Reached(trial_spec, assigned, monkeypatch).seen
        after = Reached(trial_spec, dataclasses.replace(assigned, **{name: changes[name]}), monkeypatch).seen
    finally:
        torch.set_num_threads(threads)
    assert before[name] != after[name]
    expected = {"threads": 2, "granted": [2**30], "expected": 2**20 / 2**30, "checkpoint": 2}
    assert after[name] == expected.get(name, after[name])


def test_equal_assignments_give_equal_trials(trial_spec, monkeypatch) -> None:
    one, two = (Reached(trial_spec, PMF, monkeypatch).seen for _ in range(2))
    assert one == two


def test_names_of_folders_tell_legs_apart() -> None:
    first = dataclasses.replace(PMF, trial_id="trial-003")
    assert [dataclasses.replace(first, leg=leg).folder for leg in (1, 2)] == ["trial-003", "trial-003.2"]
