from __future__ import annotations

import math
import random

import pytest

from search.goals.objectives import get_objectives
from search.goals.pareto import non_dominated
from search.goals.ranking import priority
from search.schedulers import SCHEDULERS, ParetoASHA, make_rule, rungs
from trainables.errors import UserError

TWO = get_objectives(["memory", "accuracy"])
THREE = get_objectives(["memory", "accuracy", "loss"])

#: Trials each dominated by all before it.
CHAIN = {f"t{i}": (1.0 + i, 0.9 - i / 20) for i in range(10)}


def losses(objectives, values):
    return tuple(o.loss(value) for o, value in zip(objectives, values, strict=True))


def going_on(rule, rung, *, epoch=1, objectives=TWO):
    """Note a rung, {trial: values}; return who goes on once all are there."""
    for trial, values in rung.items():
        rule.note(trial, epoch, losses(objectives, values))
    return {trial for trial in rung if rule.goes_on(trial, epoch)}


def pareto(factor=3.0, objectives=TWO, **options):
    return make_rule("pareto_asha", objectives, 9, factor, 1, **options)


# Milestones and settings


@pytest.mark.parametrize(
    ("epochs", "factor", "first", "expected"),
    [
        (9, 3, 1, (1, 3)),
        (10, 3, 1, (1, 3, 9)),
        (8, 2, 1, (1, 2, 4)),
        (20, 2.5, 1, (1, 3, 6, 16)),
        (20, 2.5, 2, (2, 5, 13)),
        (6, 1.3, 1, (1, 2, 3, 4, 5)),
        (8, 3, 8, ()),
        (1, 3, 1, ()),
    ],
)
def test_milestones(epochs, factor, first, expected) -> None:
    assert rungs(epochs, factor, first) == expected
    assert make_rule("pareto_asha", TWO, epochs, factor, first).milestones == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hyperband"}, "unknown scheduler 'hyperband'; known: asha, median, none, pareto_asha"),
        ({"reduction_factor": 1.0}, "--reduction-factor 1: give a number from 1.1 on, e.g. 3"),
        ({"reduction_factor": math.nan}, "--reduction-factor nan"),
        ({"min_epochs": 0}, "--min-epochs 0: give a number from 1 to the 9 epochs of a trial"),
        ({"min_epochs": 10}, "--min-epochs 10"),
        (
            {"objectives": get_objectives(["memory", "params"])},
            "--scheduler pareto_asha: all of --objectives memory,params are known before training",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, message) -> None:
    given = {"name": "pareto_asha", "objectives": TWO, "epochs": 9, "reduction_factor": 3.0, "min_epochs": 1}
    with pytest.raises(UserError) as error:
        make_rule(**{**given, **options})
    assert str(error.value).startswith(message)


def test_none_lets_everything_pass() -> None:
    rule = make_rule("none", get_objectives(["memory"]), 9, 3, 1)
    assert rule.milestones == ()
    assert going_on(rule, {"a": (1,), "b": (math.nan,)}, objectives=get_objectives(["memory"])) == {"a", "b"}
    assert rule.promote({}) is None


def test_every_rule_is_described_and_made() -> None:
    for name, description in SCHEDULERS.items():
        rule = make_rule(name, TWO, 9, 3, 1)
        assert description
        assert rule.pauses == (name != "median")
        assert rule.goes_on("a", 9), "after the last epoch there is nothing to decide"


# Rungs by hand


@pytest.mark.parametrize(("factor", "places"), [(2, 5), (2.5, 4), (3, 3), (4, 2), (11, 1)])
def test_the_best_few_of_a_chain(factor, places) -> None:
    assert going_on(pareto(factor), CHAIN) == set(list(CHAIN)[:places])


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (3, {"a", "b", "c"}),  # two places, but the front of three goes on whole
        (2, {"a", "b", "c"}),
        (1.5, {"a", "b", "c", "e"}),  # of d and e, of the next rank, the one with the better accuracy
        (1.2, {"a", "b", "c", "d", "e"}),
    ],
)
def test_two_objectives(factor, expected) -> None:
    rung = {"a": (1, 0.3), "b": (2, 0.5), "c": (4, 0.8), "d": (3, 0.45), "e": (5, 0.7), "f": (6, 0.6)}
    assert going_on(pareto(factor), rung) == expected


@pytest.mark.parametrize(("factor", "expected"), [(2, "abd"), (1.5, "abcd"), (1.2, "abcde")])
def test_three_objectives(factor, expected) -> None:
    rung = {
        "a": (1, 0.3, 2.0),
        "b": (2, 0.5, 1.5),
        "c": (2, 0.5, 1.6),  # dominated by b
        "d": (3, 0.4, 1.2),
        "e": (3, 0.4, 1.3),  # dominated by d
        "f": (4, 0.3, 2.5),  # by all
    }
    assert going_on(pareto(factor, THREE), rung, objectives=THREE) == set(expected)


def test_of_equal_trials_the_front_takes_all_and_the_last_place_goes_by_name() -> None:
    rung = {"z": (1, 0.9), "y": (1, 0.9), "d": (2, 0.5), "c": (2, 0.5), "b": (2, 0.5), "a": (3, 0.1)}
    assert going_on(pareto(2), rung) == {"y", "z", "b"}


def test_a_trial_without_a_number_never_goes_on_but_counts() -> None:
    rung = {"a": (1, 0.9), "b": (2, 0.8), "n": (1, math.nan), "m": (0.5, -math.inf)}
    rule = pareto(2)
    assert going_on(rule, rung) == {"a", "b"}
    assert rule.promote({"n": 1, "m": 1}) is None
    assert going_on(pareto(), {"n": (1, math.nan)}) == set()


def test_asha_looks_at_the_first_objective_that_training_decides() -> None:
    rung = {"cheap": (1, 0.2, 0.1), "good": (8, 0.9, 3.0), "fair": (4, 0.5, 2.0), "poor": (2, 0.1, 0.2)}
    assert going_on(make_rule("asha", THREE, 9, 4, 1), rung, objectives=THREE) == {"good"}
    assert going_on(make_rule("asha", THREE, 9, 2, 1), rung, objectives=THREE) == {"good", "fair"}


# Cheap and bad


def test_a_cheap_trial_that_only_guesses_is_not_on_the_front() -> None:
    rung = {"cheap": (1, 0.1), "good": (4, 0.6), "fair": (5, 0.5)}
    assert going_on(pareto(), rung) == {"cheap", "good"}
    assert going_on(pareto(guessing={"accuracy": 0.1}), rung) == {"good"}


def test_trials_that_only_guess_take_the_places_that_are_left() -> None:
    rung = {"c": (3, 0.1), "b": (2, 0.1), "a": (1, 0.1), "good": (4, 0.6)}
    assert going_on(pareto(2, guessing={"accuracy": 0.1}), rung) == {"good", "a"}


def test_while_all_guess_they_are_compared_with_each_other() -> None:
    rule = pareto(guessing={"accuracy": 0.1})
    assert going_on(rule, {"a": (2, 0.05), "b": (3, 0.1), "c": (3, 0.05)}) == {"a", "b"}
    assert going_on(rule, {"d": (9, 0.2)}) == {"d"}
    assert not rule.goes_on("a", 1)


def test_what_beats_guessing_in_one_objective_has_learnt() -> None:
    rule = pareto(objectives=THREE, guessing={"accuracy": 0.1, "loss": 2.3, "memory": 0.0})
    rung = {"a": (1, 0.1, 2.2), "b": (9, 0.6, 2.0), "c": (0.5, 0.1, 2.3)}
    assert going_on(rule, rung, objectives=THREE) == {"a", "b"}


# Promotion


def test_a_paused_trial_goes_on_once_the_rung_has_filled() -> None:
    rule = pareto(3)
    assert going_on(rule, dict(list(CHAIN.items())[:5])) == {"t0"}
    waiting = dict.fromkeys(["t1", "t2", "t3", "t4"], 1)
    assert rule.promote(waiting) is None
    assert going_on(rule, {"t5": CHAIN["t5"]}) == set()
    assert rule.promote({**waiting, "t5": 1}) == "t1"
    del waiting["t1"]
    assert rule.promote({**waiting, "t5": 1}) is None


def test_the_highest_rung_comes_first_then_the_best() -> None:
    rule = pareto(3)
    going_on(rule, CHAIN, epoch=1)
    going_on(rule, dict(list(CHAIN.items())[:6]), epoch=3)
    assert rule.promote({"t2": 1, "t1": 3}) == "t1"
    assert rule.promote({"t2": 1, "t1": 1, "t5": 3}) == "t1"
    assert rule.promote({"t2": 1, "t5": 3}) == "t2"
    assert rule.promote({"t9": 1, "t5": 3}) is None
    assert rule.promote({"t1": 2}) is None, "no rung"


def test_within_a_rank_the_epsilon_net_decides_who_is_promoted() -> None:
    rule = pareto(1.1)
    rung = {"best": (1, 1.0), "w": (2, 0.5), "x": (3, 0.6), "y": (4, 0.7), "z": (5, 0.9)}
    going_on(rule, rung)
    assert rule.promote({"w": 1, "x": 1, "y": 1}) == "w", "the farthest from z, with which the net begins"
    assert rule.promote({"y": 1, "z": 1}) == "z"


# Properties


def random_rung(seed, dimensions=2, size=60):
    generator = random.Random(seed)
    rung = {}
    for i in range(size):
        values = [round(generator.random(), 1 + seed % 2) for _ in range(dimensions)]
        rung[f"trial-{i:03d}"] = tuple(math.nan if generator.random() < 0.02 else v for v in values)
    return rung


@pytest.mark.parametrize(
    ("factor", "by"), [(f, "epsilon_net") for f in (2, 2.5, 3, 4)] + [(3, "hypervolume")]
)
@pytest.mark.parametrize("objectives", [TWO, THREE], ids=["two", "three"])
def test_the_front_goes_on_the_quota_holds_and_order_does_not_matter(factor, by, objectives) -> None:
    for seed in range(2):
        rung = random_rung(seed, len(objectives))
        rule = ParetoASHA(objectives, (1, 3), factor, by=by)
        noted: dict[str, tuple[float, ...]] = {}
        for trial, values in rung.items():
            rule.note(trial, 1, losses(objectives, values))
            noted[trial] = losses(objectives, values)
            allowed = {name for name in noted if rule.goes_on(name, 1)}
            names = list(noted)
            finite = [name for name in names if all(map(math.isfinite, noted[name]))]
            front = {finite[i] for i in non_dominated([noted[name] for name in finite])}
            assert front <= allowed
            places = math.floor(len(noted) / factor)
            assert len(allowed) == max(len(front), min(places, len(finite)))
        points = [(*p[1:], p[0]) for p in noted.values()]  # what training decides leads
        if len(set(points)) == len(points) and len(front) <= places:
            assert allowed == {names[i] for i in priority(points, by=by)[:places]}

        waiting = {trial: 1 for trial in rung if trial not in allowed or trial.endswith("7")}
        again = ParetoASHA(objectives, (1, 3), factor, by=by)
        for trial in random.Random(seed).sample(sorted(rung), len(rung)):
            again.note(trial, 1, noted[trial])
            again.note(trial, 1, tuple(-value for value in noted[trial]))  # twice: nothing changes
            again.note(trial, 2, noted[trial])  # no milestone
        assert {trial for trial in rung if again.goes_on(trial, 1)} == allowed
        while waiting:
            promoted = rule.promote(waiting)
            assert promoted == again.promote(dict(sorted(waiting.items(), reverse=True)))
            if promoted is None:
                break
            assert promoted in allowed
            del waiting[promoted]


# The median rule


def curves(rule, **trials):
    for trial, values in trials.items():
        for epoch, accuracy in enumerate(values, start=1):
            rule.note(trial, epoch, losses(TWO, (1.0, accuracy)))


def test_median_stops_what_never_was_as_good_as_others_on_average() -> None:
    rule = make_rule("median", TWO, 4, 3, 2)
    assert rule.milestones == (2, 3)
    curves(rule, a=[0.75, 1.0], b=[0.25, 0.75], c=[0.125, 0.375])  # averages 0.875, 0.5 and 0.25
    curves(rule, low=[0.125, 0.4375])
    assert rule.goes_on("low", 1), "within the grace period"
    assert not rule.goes_on("low", 2)
    assert rule.promote({"low": 2}) is None
    curves(rule, lower=[0.125, 0.25])
    assert not rule.goes_on("lower", 2), "below 0.390625, between the averages of b and low"
    curves(rule, worse_now=[0.5, 0.125])
    assert rule.goes_on("worse_now", 2), "its best counts"


def test_median_equals_go_on_and_three_others_are_needed() -> None:
    rule = make_rule("median", TWO, 4, 3, 1)
    curves(rule, a=[0.75], b=[0.5], low=[0.125])
    assert rule.goes_on("low", 1)
    curves(rule, c=[0.25], equal=[0.5, 0.0])
    assert not rule.goes_on("low", 1)
    assert rule.goes_on("equal", 1)
    assert rule.goes_on("equal", 2), "nobody else got there"


def test_median_takes_what_is_no_number_for_the_worst() -> None:
    rule = make_rule("median", TWO, 4, 3, 1)
    curves(rule, a=[math.nan], b=[math.nan], c=[0.5], d=[0.25], nan=[math.nan])
    assert rule.goes_on("d", 1)
    curves(rule, e=[0.5], f=[0.5], g=[0.5])
    assert not rule.goes_on("nan", 1)


def test_median_does_not_depend_on_the_order_of_notes() -> None:
    generator = random.Random(0)
    notes = [(f"t{i}", epoch, (1.0, -generator.random())) for i in range(9) for epoch in (1, 2, 3)]
    decisions = set()
    for seed in range(4):
        rule = make_rule("median", TWO, 5, 3, 1)
        for trial, epoch, point in random.Random(seed).sample(notes, len(notes)):
            rule.note(trial, epoch, point)
            rule.note(trial, epoch, (0.0, 0.0))
        decisions.add(tuple(rule.goes_on(f"t{i}", epoch) for i in range(9) for epoch in (1, 2, 3)))
    assert len(decisions) == 1
    assert {True, False} == set(decisions.pop())
