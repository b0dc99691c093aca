"""Ranges and choices: where a value lies, and what lies where."""

from __future__ import annotations

import pytest

from trainables.parameters import Choices, Parameter, Range

RANGES = [
    Range(1, 6),
    Range(0, 9, step=3),
    Range(48, 400, step=48),
    Range(1, 32, log=True),
    Range(3, 3),
    Range(0.0, 1.0),
    Range(0.0, 1.0, step=0.25),
    Range(1e-4, 1e-2, log=True),
]


@pytest.mark.parametrize("within", RANGES, ids=repr)
def test_shares_run_from_one_end_to_the_other(within) -> None:
    shares = [index / 1000 for index in range(1000)]
    values = [within.at(share) for share in shares]
    assert values == sorted(values)
    assert all(within.holds(value) for value in values)
    assert values[0] == within.low
    assert all(type(value) is within.kind for value in values)
    if not within.endless:
        assert set(values) == set(within.grid())


@pytest.mark.parametrize("within", RANGES, ids=repr)
def test_places_run_from_0_to_1_as_values_rise(within) -> None:
    values = within.grid(9)
    places = [within.place(value) for value in values]
    assert places == sorted(places)
    assert places[0] == 0
    last = 1 if within.low != within.high and values[-1] == within.high else places[-1]
    assert places[-1] == pytest.approx(last)


def test_equal_parts_of_a_log_range_are_equal_ratios() -> None:
    rates = Range(1e-4, 1e-2, log=True)
    assert rates.at(0.5) == pytest.approx(1e-3)
    assert rates.place(1e-3) == pytest.approx(0.5)
    assert rates.grid(3) == (1e-4, pytest.approx(1e-3), 1e-2)


@pytest.mark.parametrize("points", [2, 3, 5, 100])
@pytest.mark.parametrize("within", RANGES, ids=repr)
def test_a_grids_values_are_nearest_to_themselves(within, points) -> None:
    values = within.grid(points)
    assert len(values) <= points
    assert [within.nearest(value, points) for value in values] == list(range(len(values)))


def test_what_is_outside_is_moved_to_the_nearest_end_that_a_step_reaches() -> None:
    assert [Range(0, 10, step=4).clamp(value) for value in (-3, 3, 4, 11)] == [0, 0, 4, 8]
    assert [Range(0.5, 1.5).clamp(value) for value in (0.0, 0.7, 2.0)] == [0.5, 0.7, 1.5]


def test_whole_numbers_are_told_from_others_by_their_ends() -> None:
    assert Range(0, 1).whole
    assert not Range(0, 1.0).whole
    assert Range(0, 1, kind=float).grid(3) == (0.0, 0.5, 1.0)
    assert Range(0, 1, kind=float) != Range(0, 1)


def test_values_that_cannot_be_counted_are_not() -> None:
    with pytest.raises(ValueError, match="no steps between 0 and 1"):
        Range(0.0, 1.0).grid()
    assert Range(2.0, 2.0).grid() == (2.0,)


def test_choices_have_equal_parts() -> None:
    choices = Choices(("a", "b", "c"))
    assert [choices.at(share) for share in (0.0, 0.34, 0.67, 0.999)] == ["a", "b", "c", "c"]
    assert list(choices) == list(choices.grid(2)) == ["a", "b", "c"]
    assert choices.holds("b")
    assert not choices.holds("d")
    assert Choices(("a",)) != Choices(("a",), ordered=False)


@pytest.mark.parametrize(
    ("parameter", "document"),
    [
        (Range(1, 32, log=True), {"type": "int", "low": 1, "high": 32, "step": 1, "log": True}),
        (Range(0.0, 1.0), {"type": "float", "low": 0.0, "high": 1.0, "step": None, "log": False}),
        (Choices(("x", None)), {"type": "categorical", "choices": ["x", None]}),
    ],
)
def test_their_form_in_json(parameter: Parameter, document) -> None:
    assert parameter.to_dict() == document
