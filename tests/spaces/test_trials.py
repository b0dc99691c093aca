"""Trials whose answers come from a function speak Optuna's protocol."""

from __future__ import annotations

import optuna
import pytest

from spaces.trials import AnsweringTrial, Ends, renamed
from trainables.methods.space import suggest
from trainables.parameters import Choices, Parameter, Range

PARAMETERS: dict[str, Parameter] = {
    "n": Range(1, 9, step=2),
    "rate": Range(1e-4, 1e-2, log=True),
    "share": Range(0, 1, kind=float, step=0.5),
    "side": Choices(("left", "right"), ordered=False),
}


def test_what_is_asked_reaches_the_answer_and_is_noted() -> None:
    asked = []

    def answer(name: str, parameter: Parameter) -> object:
        asked.append(name)
        return parameter.at(0.6)

    trial = AnsweringTrial(answer)
    values = {name: suggest(trial, name, parameter) for name, parameter in PARAMETERS.items()}
    assert trial.values == values
    assert trial.parameters == PARAMETERS
    assert {name: suggest(trial, name, parameter) for name, parameter in PARAMETERS.items()} == values
    assert asked == list(PARAMETERS), "once each"


def test_a_plain_list_of_choices_has_an_order() -> None:
    trial = AnsweringTrial(lambda name, parameter: parameter.at(0.9))
    assert trial.suggest_categorical("side", ["left", "right"]) == "right"
    assert trial.parameters["side"] == Choices(("left", "right"))


def test_whole_numbers_come_as_such() -> None:
    trial = AnsweringTrial(lambda name, parameter: 2.0)
    assert isinstance(trial.suggest_int("n", 1, 3), int)
    assert isinstance(trial.suggest_float("x", 1, 3), float)


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS.items())
def test_an_optuna_trial_is_asked_for_the_same(name, parameter) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    assert parameter.holds(suggest(renamed(trial, "part."), name, parameter))
    assert list(trial.params) == [f"part.{name}"]


def test_ends_stop_at_what_has_no_order() -> None:
    high = Ends("high", {"n": 4})
    trial = AnsweringTrial(high)
    values = {name: suggest(trial, name, parameter) for name, parameter in PARAMETERS.items()}
    assert values == {"n": 3, "rate": 1e-2, "share": 1.0, "side": "right"}
    assert high.undecided == "side"
