"""A trial whose head starts from the linear probe's solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.trials import PMF
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.methods.heads import head_inputs
from trainables.probe import solve_linear
from trainables.step import Recipe
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun

PROBE = Recipe(head_start="probe")


def _seen(run: TrialRun, split: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the head gets for a split, the method's outputs, and the labels."""
    with head_inputs(run.method) as found:
        outputs, labels = run.trainer.outputs(run.loader(split))
    return torch.cat(found), outputs, labels


@pytest.mark.parametrize(
    ("method", "precision", "error"),
    [("linear", "fp32", 1e-6), ("pmf", "fp32", 1e-6), ("pmf", "bf16", 2**-7)],
)
def test_the_untrained_method_is_the_probe(trial_spec, method, precision, error) -> None:
    setting = replace(trial_spec.setting, precision=precision)
    assignment = Assignment(config={"method": method, "learning_rate": 1e-3})
    run = TrialRun(replace(trial_spec, setting=setting, recipe=PROBE), assignment)
    (before, _, labels), (held_out, _, truth) = _seen(run, "train"), _seen(run, "validation")
    solution = solve_linear(run.trainer.task, (before, labels), (held_out, truth))
    started = run.start()
    assert started is not None
    features, outputs, _ = _seen(run, "train")
    assert torch.equal(features, before)  # all but the head is as it was
    magnitude = features.abs() @ solution.weight.abs().T + solution.bias.abs()
    assert (outputs - solution.outputs(features)).abs().le(error * magnitude).all()
    if precision == "fp32":
        assert started.metrics["accuracy"] == pytest.approx(solution.metrics["accuracy"])
        fitted = LogisticRegression(C=1 / (solution.strength * len(labels)), tol=1e-8)
        judge = make_pipeline(StandardScaler(), fitted).fit(features.double().numpy(), labels.numpy())
        assert (judge.predict(features.double().numpy()) == outputs.argmax(dim=1).numpy()).all()


def test_the_first_result_tells_where_it_started(trial_spec) -> None:
    run = TrialRun(replace(trial_spec, recipe=PROBE), PMF)
    assert run.start() is run.start() is not None  # once, whoever asks
    first, second = run.epoch(), run.epoch()
    assert {"start_accuracy", "start_macro_f1", "start_loss"} <= first.keys()
    assert not [name for name in second if name.startswith("start_")]
    assert first["train_loss"] < TrialRun(trial_spec, PMF).epoch()["train_loss"]


def test_the_best_epoch_may_be_the_start(trial_spec) -> None:
    harmful = Assignment(config={**PMF.config, "learning_rate": 1e-9})
    run = TrialRun(replace(trial_spec, recipe=replace(PROBE, keep="best")), harmful)
    first = run.epoch()
    assert first["kept_epoch"] == 0
    assert first["accuracy"] == first["start_accuracy"]


def test_inherited_weights_stay(trial_spec) -> None:
    config = {**PMF.config, "learning_rate": 1e-9}
    plain = TrialRun(trial_spec, PMF)
    weights = SupernetWeights("pmf", plain.method.config.to_dict(), plain.method.trainable_state_dict())
    run = TrialRun(replace(trial_spec, recipe=PROBE), replace(PMF, config=config), weights)
    assert "start_accuracy" not in run.epoch()


def test_a_head_that_is_not_linear_is_refused(trial_spec) -> None:
    run = TrialRun(replace(trial_spec, recipe=PROBE), PMF)
    head: Any = run.method.head
    run.method.head = torch.nn.Sequential(head)
    with pytest.raises(UserError, match="the head of PMF is a Sequential"):
        run.epoch()
