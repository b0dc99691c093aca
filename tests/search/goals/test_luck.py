"""Luck on made-up outputs, for which the answer is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from search.goals.luck import (
    RESAMPLES,
    chance_better,
    chances_on_front,
    draws,
    over_seeds,
    own_noise,
    paired_difference,
    pooled_spread,
    resampled_means,
    resampled_scores,
    strongest_rivals,
)
from search.goals.pareto import Array


def _right(share: float, rows: int, *, first: int = 0) -> Array:
    """Rows of which a share is right, from a row on."""
    right = np.zeros(rows)
    right[(first + np.arange(round(share * rows))) % rows] = 1.0
    return right


def _losses(*values: Array) -> Array:
    return -resampled_means(np.stack(values))[..., None]


def test_the_standard_error_of_a_share_is_the_binomial_one() -> None:
    drawn = resampled_means(_right(0.7, 361)[None])
    assert drawn.shape == (1, RESAMPLES)
    assert drawn.mean() == pytest.approx(0.7, abs=0.003)
    assert drawn.std() == pytest.approx(np.sqrt(0.7 * 0.3 / 361), rel=0.06)


def test_products_of_counts_are_the_means_of_the_drawn_rows() -> None:
    values = np.random.default_rng(1).normal(size=(3, 40))
    means = resampled_means(values, resamples=130)
    drawn = [np.repeat(np.arange(40), counts) for counts in draws(np.arange(40), 130)]
    assert means == pytest.approx(np.stack([values[:, rows].mean(axis=1) for rows in drawn], axis=1))
    assert {len(rows) for rows in drawn} == {40}


def test_what_is_scored_again_sees_the_first_of_the_same_resamples() -> None:
    values = _right(0.4, 50)
    for groups in (np.arange(50), np.arange(50) // 3):
        scores = resampled_scores(lambda counts: (counts * values).sum(1) / counts.sum(1), groups, 20)
        assert scores == pytest.approx(resampled_means(values[None], groups)[0, :20])


def test_copies_of_a_row_tell_no_more_than_the_row() -> None:
    alone = resampled_means(_right(0.4, 100)[None])
    copied = resampled_means(np.repeat(_right(0.4, 100), 5)[None], np.repeat(np.arange(100), 5))
    assert copied == pytest.approx(alone)
    as_if_new = resampled_means(np.repeat(_right(0.4, 100), 5)[None])
    assert as_if_new.std() == pytest.approx(alone.std() / np.sqrt(5), rel=0.1)


def test_pairing_knows_small_differences_that_standard_errors_do_not() -> None:
    rows = 400
    worse, better = _right(0.70, rows), _right(0.72, rows)  # right on the same rows, and on eight more
    first, second = -resampled_means(np.stack([better, worse]))
    found = paired_difference(first, second, observed=0.02)
    assert found.mean == 0.02
    assert found.standard_error == pytest.approx(np.sqrt(0.02 * 0.98 / rows), rel=0.1)
    assert found.p_better > 0.99
    elsewhere = _right(0.72, rows, first=200)  # right on others: the same difference may be chance
    apart = paired_difference(-resampled_means(elsewhere[None])[0], second, observed=0.02)
    assert apart.standard_error > 3 * found.standard_error
    assert 0.6 < apart.p_better < 0.85
    back = paired_difference(second, first, observed=-0.02)
    assert (back.mean, back.p_better) == (-0.02, 0.0)


def test_equal_outputs_are_no_better_and_the_cheaper_one_is_on_the_front() -> None:
    same = _losses(_right(0.7, 100), _right(0.7, 100))
    assert chances_on_front(same, np.array([[1.0], [2.0]])).tolist() == [1.0, 0.0]
    assert chances_on_front(same, np.array([[1.0], [1.0]])).tolist() == [1.0, 1.0], "ties are no defeat"
    assert chance_better(same[1], same[0]) == 0.0
    rounded = same + np.array([[[0.0]], [[1e-9]]])
    assert chances_on_front(rounded, np.array([[1.0], [1.0]])).tolist() == [1.0, 1.0]


def test_two_that_are_equally_good_share_the_place() -> None:
    losses = _losses(_right(0.7, 400), _right(0.7, 400, first=200))
    alone = chances_on_front(losses, np.array([[2.0], [2.0]]))
    assert alone == pytest.approx([0.5, 0.5], abs=0.08)
    cheaper, dearer = chances_on_front(losses, np.array([[1.0], [2.0]]))
    assert cheaper == 1.0
    assert dearer == chance_better(losses[1], losses[0]) == pytest.approx(0.5, abs=0.08)


def test_of_many_equal_ones_none_is_likely_to_be_the_best() -> None:
    """The more are tried, the less the best result means."""
    rng = np.random.default_rng(0)
    losses = _losses(*(rng.random((20, 300)) < 0.7).astype(float))
    chances = chances_on_front(losses, np.ones((20, 1)))
    assert chances.max() < 0.7
    assert 1.0 <= chances.sum() < 1.3, "one of them is the best in each resample, or a few are"


def test_only_what_costs_no_more_keeps_others_off() -> None:
    losses = _losses(_right(0.5, 100), _right(0.9, 100))
    assert chances_on_front(losses, np.array([[1.0], [2.0]])).tolist() == [1.0, 1.0]
    assert chances_on_front(losses, np.array([[2.0], [1.0]])).tolist() == [0.0, 1.0]
    # Of two costs, one less is enough.
    assert chances_on_front(losses, np.array([[2.0, 1.0], [1.0, 2.0]])).tolist() == [1.0, 1.0]
    assert chances_on_front(losses, np.empty((2, 0))).tolist() == [0.0, 1.0]


def test_with_several_trained_objectives_one_better_value_is_enough() -> None:
    one, other = _losses(_right(0.9, 100), _right(0.5, 100))
    losses = np.stack([np.hstack([one, other]), np.hstack([other, one])])
    assert chances_on_front(losses, np.ones((2, 1))).tolist() == [1.0, 1.0]
    assert chance_better(losses[0], losses[1]) == 1.0
    assert chances_on_front(losses[..., :1], np.ones((2, 1))).tolist() == [1.0, 0.0]


def test_the_strongest_rival_is_what_dominates_most_often() -> None:
    losses = -np.array([[0.6, 0.6, 0.6, 0.6], [0.7, 0.7, 0.7, 0.5], [0.8, 0.65, 0.65, 0.55]])[..., None]
    costs = np.array([[1.0], [2.0], [3.0]])
    assert chances_on_front(losses, costs).tolist() == [1.0, 0.75, 0.25]
    assert strongest_rivals(losses, costs) == [None, 0, 1], (
        "the second keeps the third off twice, the first once"
    )
    feasible = np.array([[False] * 4, [True] * 4, [True] * 4])
    assert strongest_rivals(losses, costs, feasible) == [None, None, 1]


def test_what_breaks_a_constraint_is_off_the_front_and_keeps_none_off() -> None:
    losses = _losses(_right(0.9, 100), _right(0.5, 100))
    feasible = np.ones((2, RESAMPLES), dtype=bool)
    feasible[0, :250] = False
    assert chances_on_front(losses, np.ones((2, 1)), feasible).tolist() == [0.75, 0.25]


_NONE = np.empty((0, 20_000))


def test_seeds_are_drawn_so_that_the_variance_of_their_mean_is_right() -> None:
    for seeds in (2, 3, 5):
        runs = np.random.default_rng(seeds).normal(size=seeds)
        drawn = over_seeds(runs.tolist(), _NONE, seed=0)
        assert drawn.mean() == pytest.approx(runs.mean(), abs=0.03)
        assert drawn.var() == pytest.approx(runs.var(ddof=1) / seeds, rel=0.08)
    assert over_seeds([1.0], np.zeros((1, 10)), 0).tolist() == [1.0] * 10
    alone = over_seeds([5.0], _NONE, 0, spread=2.0)
    assert (alone.mean(), alone.std()) == pytest.approx((5, 2), abs=0.05)
    assert over_seeds([5.0], _NONE, 0, spread=-2.0) - 5 == pytest.approx(5 - alone), "a loss, so lucky alike"
    two, rows = [1.0, 9.0], np.random.default_rng(0).normal(size=(2, 50))
    assert (over_seeds(two, rows, 1) == over_seeds(two, rows, 1)).all()
    assert (over_seeds(two, rows, 1) != over_seeds(two, rows, 2)).any()


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_fewer_resamples_have_the_same_seeds(seeds) -> None:
    values = [*map(float, range(seeds))]
    many, few = (over_seeds(values, np.empty((0, resamples)), 7) for resamples in (1000, 200))
    assert (many[:200] == few).all()


def _wavering(seeds: int, rng: np.random.Generator, rows: int = 400) -> tuple[list[float], Array]:
    """Values and deviations of seeds that only differ in which of two fifths of the rows are right."""
    chances = rng.choice([1.0, 0.0, 0.5], size=rows, p=[0.5, 0.1, 0.4])
    right = (rng.random((seeds, rows)) < chances).astype(float)
    means = right.mean(axis=1)
    return means.tolist(), resampled_means(right, resamples=300) - means[:, None]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_rows_that_waver_with_the_seed_count_once(seeds) -> None:
    """The luck of a row that is right with every second seed shrinks with the number of seeds."""
    rng = np.random.default_rng(seeds)
    found = [over_seeds(*_wavering(seeds, rng), seed=0).var() for _ in range(150)]
    fixed, waver = (0.5 * 1 + 0.4 * 0.25 - 0.7**2) / 400, 0.4 * 0.25 / 400
    # Of few seeds, those between which there is less than the rows make do not make up for those with more.
    assert fixed + waver / seeds <= np.mean(found) * 1.05 < 1.3 * (fixed + waver / seeds)


def test_the_spread_over_seeds_is_that_of_all_configurations_with_several() -> None:
    rng = np.random.default_rng(0)
    runs = [mean + rng.normal(0, 0.02, seeds) for mean in rng.random(200) for seeds in (1, 2, 3)]
    assert pooled_spread(([*each], _NONE) for each in runs) == pytest.approx(0.02, rel=0.1)
    assert pooled_spread([([0.5], _NONE), ([], _NONE)]) == pooled_spread([]) == 0
    # Seeds that differ as much as their rows let them have no luck of their own.
    waver = np.sqrt(0.4 * 0.25 / 400)
    alike = [_wavering(3, rng) for _ in range(100)]
    assert pooled_spread(alike) < 0.4 * waver
    luck = rng.normal(0, 2 * waver, (100, 3))
    apart = [([*np.add(values, own)], rows) for (values, rows), own in zip(alike, luck, strict=True)]
    assert pooled_spread(apart) == pytest.approx(2 * waver, rel=0.1)


def test_luck_that_all_share_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.03, 1000), rng.normal(0, 0.01, (40, 1000))
    own[0] *= 3
    noise = own_noise([shared + each for each in own])
    assert noise[0] == pytest.approx(0.03, rel=0.1)
    assert noise[1:] == pytest.approx(0.01, rel=0.15)
    assert own_noise([shared]).tolist() == [0.0]
    assert own_noise([]).tolist() == []


@pytest.mark.slow
def test_two_hundred_trials_of_a_large_split_take_a_second_or_two() -> None:
    values = (np.random.default_rng(0).random((200, 20_000)) < 0.7).astype(float)
    started = time.process_time()
    chances_on_front(-resampled_means(values)[..., None], np.arange(200.0)[:, None])
    assert time.process_time() - started < 10  # of all cores; other programs may run on them
