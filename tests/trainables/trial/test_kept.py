"""Which weights a trial's result and checkpoint are of, also after an interruption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trials import PMF, Saved
from trainables.progress import no_tick
from trainables.trial.checkpoint import WEIGHTS
from trainables.trial.run import TrialRun, evaluate_on_test
from trainables.trial.workbench import TrialSpec

METRICS = ("accuracy", "macro_f1", "weighted_f1", "loss")
RECIPES = (
    {"keep": "average"},
    {"keep": "best", "head_start": "probe"},
    {"schedule": "linear", "warm_up": 0.3, "head_learning_rate": 0.5, "head_start": "probe"},
)


def _with(spec: TrialSpec, **recipe: Any) -> TrialSpec:
    return replace(spec, recipe=replace(spec.recipe, **recipe))


def _numbers(result: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in result.items() if not name.endswith(("seconds", "step_time"))}


def _weights(run: TrialRun) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in run.method.trainable_state_dict().items()}


def test_the_average_is_that_of_the_last_half_of_the_epochs(trial_spec, tmp_path) -> None:
    run, ends = TrialRun(_with(trial_spec, keep="average"), PMF), []
    for _ in range(trial_spec.epochs):
        result = run.epoch()
        ends.append(_weights(run))
    run.save(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    for name, weight in saved.items():
        assert torch.allclose(weight, (ends[2][name] + ends[3][name]) / 2, atol=1e-6)
        assert torch.equal(_weights(run)[name], ends[3][name])  # training goes on from these
    run.method.load_trainable_state_dict(saved)
    assert run.trainer.evaluate(run.validation).metrics == {name: result[name] for name in METRICS}


def test_the_best_is_the_first_epoch_of_the_highest_accuracy(trial_spec) -> None:
    plain, best = TrialRun(trial_spec, PMF), TrialRun(_with(trial_spec, keep="best"), PMF)
    seen: list[float] = []
    for _ in range(trial_spec.epochs):
        seen.append(plain.epoch()["accuracy"])
        result = best.epoch()
        assert result["accuracy"] == max(seen)
        assert result["kept_epoch"] == seen.index(max(seen)) + 1


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_resumed_trial_is_the_uninterrupted_one(trial_spec, tmp_path, recipe) -> None:
    spec = _with(trial_spec, **recipe)
    whole = TrialRun(spec, PMF)
    expected = [_numbers(whole.epoch()) for _ in range(4)]
    run, results = TrialRun(spec, PMF), []
    for epoch in range(4):
        results.append(_numbers(run.epoch()))
        (folder := tmp_path / str(epoch)).mkdir()
        run.save(folder)
        run = TrialRun(spec, PMF)
        run.load(folder)
    memory = [result.pop("measured_memory", None) for result in (*expected, *results)]
    assert memory[0]
    assert results == expected
    assert np.array_equal(run.evaluate("validation").outputs, whole.outputs)
    assert all(torch.equal(weight, _weights(whole)[name]) for name, weight in _weights(run).items())


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_test_split_is_scored_with_the_kept_weights(trial_spec, tmp_path, recipe) -> None:
    spec = _with(trial_spec, **recipe)
    run = TrialRun(spec, PMF)
    for _ in range(3):
        result = run.epoch()
    run.save(tmp_path)
    loaded = evaluate_on_test(spec, replace(PMF, checkpoint=Saved(tmp_path)), no_tick)
    assert run.evaluate("test").metrics == loaded.metrics
    validated = run.evaluate("validation")
    assert validated.metrics == {name: result[name] for name in METRICS}
    assert np.array_equal(run.outputs, validated.outputs)
