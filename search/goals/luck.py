"""How much of a result is luck: the bootstrap over the rows of a split, and over seeds.

A split is a sample of all rows that there might have been. The bootstrap draws as many rows from it, with
replacement, and looks at how results change from one draw to the next (Efron & Tibshirani, An Introduction to
the Bootstrap, 1993). All trials are evaluated on the same rows. A row that is hard for one trial is hard for
most, so differences are known better than values (the *paired* bootstrap: Koehn, Statistical significance
tests for machine translation evaluation, 2004; Berg-Kirkpatrick et al., An empirical investigation of
statistical significance in NLP, 2012).

A configuration that was trained with several seeds has their mean; its seeds are drawn, too. One that was
trained with one seed is taken to be as lucky with it as those with several are, in the mean. If there are
none, luck with the seed is unknown, and not counted.

Everything is drawn from fixed seeds: the same search gives the same figures. Values are *losses* where a
function says so: less is better, see ``search.goals.objectives.Objective.loss``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.goals.pareto import Array

#: Resamples for metrics that are means over rows, which are computed as matrix products.
RESAMPLES = 1000
#: Resamples for other metrics, which are computed for each resample. They are the first of ``RESAMPLES``.
RESCORED = 200
#: Counts of rows that are in memory at once.
_COUNTS = 1_000_000
#: Values that differ by less than this share of the largest one are equal; the rest is rounding.
_RESOLUTION = 1e-6


@dataclass(frozen=True)
class Luck:
    """What is known about the luck of a configuration.

    Attributes:
        p_front: Probability that it is on the front, see ``chances_on_front``; None if unknown.
        p_better: Probability that it is better than its neighbour on the front that costs less, see
            ``chance_better``; None for the cheapest member, for what is not on the front, and if unknown.
        standard_errors: Standard error of each metric that is known to have one, by name; those on the test
            split are named ``test_…``.
    """

    p_front: float | None = None
    p_better: float | None = None
    standard_errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """By how much one configuration is better than another.

    Attributes:
        mean: The difference that was observed, in the objective's unit; above 0 if the first one is better.
        standard_error: Its standard error.
        p_better: Share of resamples in which the first one is better.
    """

    mean: float
    standard_error: float
    p_better: float


def draws(groups: NDArray[np.intp], resamples: int = RESAMPLES, seed: int = 0) -> Iterator[NDArray[np.intp]]:
    """Yield how often each row is in a resample, of shape (rows,); equal arguments give equal draws.

    Args:
        groups: The number of each row's group, from 0 without gaps, of shape (rows,). As many groups are
            drawn as there are, with replacement, each with all of its rows.
        resamples: Number of resamples.
        seed: Decides the draws.
    """
    rng, count = np.random.default_rng(seed), int(groups.max()) + 1
    for _ in range(resamples):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[groups]


def resampled_means(
    values: Array, groups: NDArray[np.intp] | None = None, resamples: int = RESAMPLES
) -> Array:
    """Return the mean over the rows of each resample, see ``resampled_scores``.

    >>> means = resampled_means(np.array([[0.0, 1.0] * 50]))
    >>> round(float(means.std()), 2)  # sqrt(0.5 * 0.5 / 100)
    0.05

    Args:
        values: Values of the rows, of shape (trials, rows).
        groups: See ``draws``; None if each row is drawn on its own.
        resamples: Number of resamples.

    Returns:
        Means, of shape (trials, resamples).
    """
    groups = np.arange(values.shape[1]) if groups is None else groups
    return resampled_scores(lambda counts: values @ counts.T / counts.sum(axis=1), groups, resamples)


def resampled_scores(
    score: Callable[[Array], Array], groups: NDArray[np.intp], resamples: int = RESCORED
) -> Array:
    """Return the score of each resample, of shape (resamples,), or (…, resamples) for several scores.

    Args:
        score: Returns the scores of R resamples in the last axis, given how often each row is in each of
            them, of shape (R, rows).
        groups: See ``draws``.
        resamples: Number of resamples.
    """
    drawn = draws(groups, resamples)
    at_once = max(1, _COUNTS // len(groups))
    return np.concatenate(
        [
            score(np.stack([*itertools.islice(drawn, min(at_once, resamples - done))]).astype(np.float64))
            for done in range(0, resamples, at_once)
        ],
        axis=-1,
    )


def over_seeds(values: Sequence[float], deviations: Array, seed: int, spread: float = 0.0) -> Array:
    """Return the mean over a configuration's seeds, with luck in its rows and seeds, of shape (resamples,).

    The rows that change from one seed to another make part of the difference between the seeds' values. Their
    luck is in the mean of the deviations, so the luck of S seeds is what the rows leave of the variance
    between the values: s² - v, see ``between_seeds``. Of the seeds, S - 1 are drawn: with S of them, the
    variance of the mean would come out too small by a factor of (S - 1) / S, which is a half for two seeds
    (Rao & Wu, Resampling inference with complex survey data, 1988).

    Args:
        values: A value for each of the S seeds.
        deviations: By how much those of some seeds differ in each resample of the rows, of shape (seeds,
            resamples); none if no outputs are known.
        seed: Decides the draws. Values of one configuration need the same draws.
        spread: Luck of the seed, for a configuration with a single one, see ``pooled_spread``.
    """
    count, resamples = len(values), deviations.shape[1]
    mean = float(np.mean(values))
    of_rows = deviations.mean(axis=0) if len(deviations) else np.zeros(resamples)
    rng = np.random.default_rng(seed)
    if count == 1:
        of_seeds = spread * rng.standard_normal(resamples) if spread else np.zeros(resamples)
    else:
        together, rows = between_seeds(values, deviations)
        left = math.sqrt(max(0.0, 1 - rows / together)) if together else 0.0
        drawn = rng.integers(count, size=(resamples, count - 1))
        of_seeds = left * (np.asarray(values)[drawn].mean(axis=1) - mean)
    return np.asarray(mean + of_rows + of_seeds)


def between_seeds(values: Sequence[float], deviations: Array) -> tuple[float, float]:
    """Return the variance s² between the values of some seeds, and how much of it the rows make: v.

    A row that one seed gets right and another one wrong lets both values differ. By how much such rows do so
    is the variance between the seeds' deviations in a resample.

    Args:
        values: A value for each of two or more seeds.
        deviations: As in ``over_seeds``.
    """
    rows = float(deviations.var(axis=0, ddof=1).mean()) if len(deviations) > 1 else 0.0
    return float(np.var(values, ddof=1)), rows


def pooled_spread(configurations: Iterable[tuple[Sequence[float], Array]]) -> float:
    """Return the luck of the seed that configurations have in common, 0 if it is unknown.

    It is the standard deviation that rows leave between seeds, see ``between_seeds``.

    >>> none = np.empty((0, 1000))
    >>> pooled_spread([([1.0, 3.0], none), ([5.0, 5.0], none), ([7.0], none)])
    1.0

    Args:
        configurations: For each its values, one for each seed, and its deviations, as in ``over_seeds``.
    """
    squares, freedom = 0.0, 0
    for values, deviations in configurations:
        if len(values) > 1:
            together, rows = between_seeds(values, deviations)
            squares += (len(values) - 1) * (together - rows)
            freedom += len(values) - 1
    return math.sqrt(max(0.0, squares) / freedom) if freedom else 0.0


def chances_on_front(losses: Array, exact: Array, feasible: NDArray[np.bool_] | None = None) -> Array:
    """Return the probability that each configuration is really on the front.

    It is the share of resamples in which no other configuration dominates it: costs no more, is at least as
    good, and is better or costs less. Equal configurations do not dominate each other. A configuration that
    was chosen because it was the best of many is lucky on the rows of every resample, too. So the
    probabilities are rather too high than too low.

    >>> losses = -np.array([[[0.7], [0.7], [0.7]], [[0.8], [0.6], [0.8]]])
    >>> chances_on_front(losses, np.array([[1.0], [2.0]])).round(2).tolist()
    [1.0, 0.67]

    Args:
        losses: Losses of the T configurations in the K objectives that training decides, of shape (T,
            resamples, K).
        exact: Their losses in the objectives that are known before training, of shape (T, J).
        feasible: Whether a configuration meets its constraints in a resample, of shape (T, resamples); what
            does not is neither on the front nor keeps others off it. None if all do.

    Returns:
        Probabilities, of shape (T,).
    """
    chances = np.empty(len(losses))
    for index, (_, beaten) in enumerate(_beaten(losses, exact, feasible)):
        off = beaten.any(axis=0)
        chances[index] = (~off if feasible is None else feasible[index] & ~off).mean()
    return chances


def strongest_rivals(
    losses: Array, exact: Array, feasible: NDArray[np.bool_] | None = None
) -> list[int | None]:
    """Return for each configuration the one that keeps it off the front in most resamples.

    >>> losses = -np.array([[[0.7], [0.7], [0.7]], [[0.8], [0.6], [0.8]]])
    >>> strongest_rivals(losses, np.array([[1.0], [2.0]]))
    [None, 0]

    Args:
        losses: As for ``chances_on_front``.
        exact: As there.
        feasible: As there.

    Returns:
        Numbers of configurations; None where no other one ever does.
    """
    strongest: list[int | None] = []
    for rivals, beaten in _beaten(losses, exact, feasible):
        often = beaten.mean(axis=1)
        strongest.append(int(rivals[often.argmax()]) if often.any() else None)
    return strongest


def _beaten(
    losses: Array, exact: Array, feasible: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Yield for each configuration those that cost no more, and in which resamples each dominates it."""
    losses = _rounded(losses)
    for index, own in enumerate(losses):
        rivals = (exact <= exact[index]).all(axis=1)
        rivals[index] = False
        cheaper = (exact[rivals] < exact[index]).any(axis=1)
        better = (losses[rivals] < own).any(axis=2) | cheaper[:, None]
        dominating = (losses[rivals] <= own).all(axis=2) & better
        yield np.flatnonzero(rivals), dominating if feasible is None else dominating & feasible[rivals]


def chance_better(dearer: Array, cheaper: Array) -> float:
    """Return the probability that what costs more is really better than what costs less.

    It is the share of resamples in which it is better in one of the objectives that training decides.

    Args:
        dearer: Losses of the one that costs more, of shape (resamples, K).
        cheaper: Losses of the other one, of the same shape.
    """
    one, other = _rounded(np.stack([dearer, cheaper]))
    return float((one < other).any(axis=1).mean())


def paired_difference(first: Array, second: Array, observed: float) -> Difference:
    """Return by how much the first of two configurations is better.

    Args:
        first: Its losses in one objective, of shape (resamples,).
        second: The losses of the other one in the same resamples.
        observed: The difference on the split itself, above 0 if the first one is better.
    """
    one, other = _rounded(np.stack([first, second])[..., None])[..., 0]
    return Difference(observed, float((second - first).std(ddof=1)), float((one < other).mean()))


def own_noise(losses: Sequence[Array]) -> Array:
    """Return how uncertain each configuration's loss is beside the others, as standard deviations.

    The luck of the split's rows that all configurations share changes none of their differences, and is left
    out: it is that of their mean.

    Args:
        losses: Losses of each of T configurations in one objective, each of shape (resamples,).

    Returns:
        Standard deviations, of shape (T,); 0 for a single configuration.
    """
    count = len(losses)
    if count < 2:
        return np.zeros(count)
    together = np.stack(losses)
    apart = (together - together.mean(axis=0)).std(axis=1, ddof=1)
    return np.asarray(apart * np.sqrt(count / (count - 1)))


def _rounded(losses: Array) -> Array:
    """Return losses of which those are equal that differ by rounding; objectives are in the last axis."""
    largest = np.abs(losses).max(axis=tuple(range(losses.ndim - 1)), initial=0.0)
    unit = _RESOLUTION * np.where(largest > 0, largest, 1.0)
    return np.asarray(np.round(losses / unit))
