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

STEPS, EPOCHS = 10, 5


def _rates(recipe: Recipe, setting: TrainingSetting | None = None, name: str = "lora") -> list[list[float]]:
    """The rates of all but the head, and of the head, in each step of a training at 0.01."""
    training = ScheduledTraining(build(name, {}), setting or TrainingSetting(), recipe, 0.01, STEPS, EPOCHS)
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


@pytest.mark.parametrize(
    ("recipe", "theirs"),
    [
        (
            {"schedule": "step", "milestones": "1,3", "gamma": 0.4},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 3], 0.4),
        ),
        (
            {"schedule": "exponential", "gamma": 0.9},
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        ),
        (
            {"schedule": "exponential", "decay_epochs": 2, "gamma": 0.1},
            lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.1),
        ),
    ],
    ids=["step", "exponential", "every second epoch"],
)
def test_rates_fall_after_epochs_as_those_of_pytorch(recipe, theirs) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = theirs(optimizer)
    expected = []
    for _ in range(EPOCHS):
        expected += schedule.get_last_lr() * (STEPS // EPOCHS)
        optimizer.step()
        schedule.step()
    assert _rates(Recipe(warm_up=0, **recipe))[0] == pytest.approx(expected)


def test_the_rate_rises_over_the_warm_up() -> None:
    rates = _rates(Recipe(schedule="constant", warm_up=0.4))[0]
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008] + [0.01] * 6)


def test_the_head_has_its_own_rate() -> None:
    *others, head, bias = _rates(Recipe(head_learning_rate=0.1, warm_up=0.2))
    assert head == bias == pytest.approx([0.1 * rate for rate in others[0]])


def test_a_modality_has_its_own_rate() -> None:
    """MoPE's paper has one for vision and another for text, whichever of them is the main modality."""
    method = build("mope", {})
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    setting = TrainingSetting(modality_learning_rates="text=1.25")
    rates = {
        names[id(parameter)]: group["lr"]
        for group in setting.make_optimizer(method, 4e-4).param_groups
        for parameter in group["params"]
    }
    text = {name for name, rate in rates.items() if rate == pytest.approx(5e-4)}
    assert text == {name for name in rates if name.startswith("complementary_prompts")} != set()
    assert all(rates[name] == 4e-4 for name in rates.keys() - text)


def test_only_a_modality_that_is_there_has_its_own_rate() -> None:
    with pytest.raises(UserError, match=r"--modality-learning-rates audio: no such modality; .*text, image"):
        TrainingSetting(modality_learning_rates="audio=2").make_optimizer(build("pmf", {}), 1e-3)
    for text in ("text", "text=0", "text=fast", "=2"):
        with pytest.raises(UserError, match=r"--modality-learning-rates .*write MODALITY=FACTOR"):
            TrainingSetting(modality_learning_rates=text)


@pytest.mark.parametrize(
    "bad",
    [
        {"warm_up": 1.1},
        {"schedule": "steps"},
        {"milestones": "3;6"},
        {"milestones": "0,6"},
        {"gamma": 0},
        {"decay_epochs": 0},
        {"head_learning_rate": 0},
        {"keep": "first"},
    ],
    ids=str,
)
def test_other_values_are_refused(bad) -> None:
    with pytest.raises(UserError):
        Recipe(**bad)


def test_a_configuration_may_state_fields_that_exist() -> None:
    assert set(SEARCHED_RECIPE) == {field.name for field in dataclasses.fields(Recipe)}
    assert set(SEARCHED_SETTINGS) <= {field.name for field in dataclasses.fields(TrainingSetting)}
