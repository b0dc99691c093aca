"""The learning rate over the steps of a trial, and the settings that a configuration may state."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from trainables.configuration import SEARCHED_RECIPE, SEARCHED_SETTINGS
from trainables.errors import UserError
from trainables.step import Recipe, TrainingSetting
from trainables.testing.cases import build
from trainables.trial.trainer import ScheduledTraining

STEPS = 10


def _rates(recipe: Recipe) -> list[list[float]]:
    """The rates of all but the head, and of the head, in each step of a training at 0.01."""
    training = ScheduledTraining(build("lora", {}), TrainingSetting(), recipe, 0.01, STEPS)
    rates = []
    for _ in range(STEPS):
        groups = training.optimizer.param_groups
        rates.append([group["lr"] for group in groups])
        training.optimizer.step()
        training.schedule.step()
    return [list(rate) for rate in zip(*rates, strict=True)]


def test_cosine_is_that_of_pytorch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    expected = []
    for _ in range(STEPS):
        expected += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert _rates(Recipe(warm_up=0))[0] == pytest.approx(expected)


def test_schedules() -> None:
    assert _rates(Recipe(schedule="constant", warm_up=0))[0] == pytest.approx([0.01] * STEPS)
    falling = [0.01 * (1 - step / STEPS) for step in range(STEPS)]
    assert _rates(Recipe(schedule="linear", warm_up=0))[0] == pytest.approx(falling)


def test_the_rate_rises_over_the_warm_up() -> None:
    rates = _rates(Recipe(schedule="constant", warm_up=0.4))[0]
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008] + [0.01] * 6)


def test_the_head_has_its_own_rate() -> None:
    *others, head, bias = _rates(Recipe(head_learning_rate=0.1, warm_up=0.2))
    assert head == bias == pytest.approx([0.1 * rate for rate in others[0]])


@pytest.mark.parametrize(
    "bad", [{"warm_up": 1.1}, {"schedule": "step"}, {"head_learning_rate": 0}, {"keep": "first"}], ids=str
)
def test_other_values_are_refused(bad) -> None:
    with pytest.raises(UserError):
        Recipe(**bad)


def test_a_configuration_may_state_fields_that_exist() -> None:
    assert set(SEARCHED_RECIPE) == {field.name for field in dataclasses.fields(Recipe)}
    assert set(SEARCHED_SETTINGS) <= {field.name for field in dataclasses.fields(TrainingSetting)}
