from __future__ import annotations

import numpy as np
import pytest

from search.goals.constraints import Constraint, parse_constraint, parse_constraints
from search.goals.objectives import available_objectives
from search.goals.quantities import quantity_of
from trainables.errors import UserError


@pytest.mark.parametrize(
    ("text", "bound", "shown"),
    [
        ("memory<=8GiB", 8.0, "memory<=8GiB"),
        (" memory <= 1536 MiB ", 1.5, "memory<=1.5GiB"),
        ("memory>=2.5GB", 2.5e9 / 2**30, "memory>=2.5GB"),
        ("memory<=1GB", 1e9 / 2**30, "memory<=1GB"),
        ("memory<=123456789B", 123456789 / 2**30, "memory<=123456789B"),
        ("checkpoint<=600kib", 600 / 1024, "checkpoint<=600KiB"),
        ("params<=5M", 5e6, "params<=5M"),
        ("params<=300k", 3e5, "params<=300k"),
        ("params<=1.5e6", 1.5e6, "params<=1.5M"),
        ("params<=1234567", 1234567.0, "params<=1234567"),
        ("step_time<=0.2s", 0.2, "step_time<=200ms"),
        ("step_time<=57ms", 0.057, "step_time<=57ms"),
        ("step_time<=2", 2.0, "step_time<=2s"),
        ("accuracy>=60%", 0.6, "accuracy>=60%"),
        ("accuracy>=0.6125", 0.6125, "accuracy>=61.25%"),
        ("macro_f1>=0.123456", 0.123456, "macro_f1>=0.123456"),  # 12.346% is more
        ("loss<=0.7", 0.7, "loss<=0.7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_is_read_and_written_as_people_do(text, bound, shown) -> None:
    constraint = parse_constraint(text)
    assert constraint.bound == bound
    assert str(constraint) == shown
    assert parse_constraint(shown) == constraint


@pytest.mark.parametrize("name", available_objectives())
def test_any_bound_is_written_so_that_it_is_read_again(name) -> None:
    shown = str(Constraint(available_objectives()[name], 1 / 3, "<="))
    assert shown.startswith(f"{name}<=0.333")
    assert parse_constraint(shown).bound == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory<8GiB", r"--constraint memory<8GiB: write an objective, <= or >=, and a value: memory<=8GiB"),
        ("memory<=", "write an objective, <= or >="),
        ("8GiB<=memory<=9GiB", "write an objective, <= or >="),
        ("speed<=3", "--constraint speed<=3: unknown objective 'speed'; known: .*accuracy, checkpoint"),
        ("memory<=8", "--constraint memory<=8: '8' lacks its unit; write e.g. 3GiB"),
        ("memory<=8M", "--constraint memory<=8M: '8M' is not a size; write e.g. 3GiB"),
        ("params<=5MiB", "'5MiB' is not a number of parameters; write e.g. 5M, 300k or 1.5e6"),
        ("params<=0", "'0' is not a number of parameters"),
        ("step_time<=2h", "'2h' is not a duration; write e.g. 0.2s or 50ms"),
        ("accuracy>=60", "'60' is not a share above 0; write e.g. 0.6 or 60%"),
        ("accuracy>=-1", "'-1' is not a share above 0"),
        ("loss<=nan", "'nan' is not a loss above 0; write e.g. 0.8"),
    ],
    ids=str,
)
def test_says_what_would_be_accepted(text, words) -> None:
    with pytest.raises(UserError, match=words):
        parse_constraint(text)


def test_violations_are_relative_to_the_bound() -> None:
    least, most = parse_constraint("accuracy>=50%"), parse_constraint("memory<=8GiB")
    assert most.violation({"memory": 10.0}) == 0.25
    assert most.violation({"memory": 8.0}) == 0
    assert most.violation({"memory": 8 + 2**-30}) > 0
    assert least.violation({"accuracy": 0.25, "memory": 1.0}) == 0.5
    assert least.violation({"accuracy": 0.75}) == -0.5


def test_rounding_in_float32_breaks_no_bound() -> None:
    """Half of the whole percentages are a little less in float32; memory is known to the byte."""
    for percent in range(1, 100):
        for direction in (">=", "<="):
            constraint = parse_constraint(f"accuracy{direction}{percent}%")
            value = float(np.float32(percent / 100))
            assert constraint.violation({"accuracy": value}) <= 0
            assert constraint.met_by(np.array([value])).all()
    least = parse_constraint("accuracy>=70%")
    assert least.violation({"accuracy": 0.6999}) > 0
    assert least.met_by(np.array([0.6999, 0.7, 0.8])).tolist() == [False, True, True]
    most = parse_constraint("memory<=8GiB")
    assert most.met_by(np.array([7.0, 8.0, 8 + 2**-30])).tolist() == [True, True, False]


def test_some_can_be_judged_before_training() -> None:
    known = {name for name, o in available_objectives().items() if Constraint(o, 1.0, "<=").known}
    assert known == {"memory", "params", "checkpoint", "inference_memory"}


def test_several_bounds_on_one_objective() -> None:
    texts = ("memory<=2GiB", "memory>=1GiB", "memory<=2048MiB", "memory<=3GiB", "params>=1M")
    assert [str(constraint) for constraint in parse_constraints(texts)] == [
        "memory<=2GiB",
        "memory>=1GiB",
        "memory<=3GiB",
        "params>=1M",
    ]
    assert parse_constraints(["accuracy<=60%", "accuracy>=0.6"])
    assert parse_constraints([]) == ()
    with pytest.raises(UserError, match="--constraint memory<=1GiB and --constraint memory>=2GiB: nothing"):
        parse_constraints(["params<=5M", "memory>=2GiB", "memory<=1GiB"])


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accuracy", 0.55183, "55.2%"),
        ("accuracy", 0.0004, "0.04%"),
        ("memory", 1.5, "1.5GiB"),
        ("params", 1_234_567.0, "1.23M"),
        ("step_time", 0.05712, "57.1ms"),
        ("loss", 0.0, "0"),
        ("loss", -2.5, "-2.5"),
    ],
)
def test_a_message_rounds_to_three_digits(name, value, shown) -> None:
    assert quantity_of(available_objectives()[name]).rounded(value) == shown
