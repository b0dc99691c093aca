"""Seeds are spent where they decide, on made-up outputs for which it is known what is unsure."""

from __future__ import annotations

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from search.engine.racing import DOUBT
from search.engine.searcher import ParetoSearcher
from search.nodes import Node
from search.records.history import TrialRecord
from search.testing.searching import finish, make_searcher
from spaces import Space, SpaceContext
from tests.search.made_up import LABELS, ROWS, outputs_of
from tests.search.reporting.histories import probes

TUNE_IDS = map(str, count())

#: What a configuration is: the share of rows that it gets right, and the first of these rows.
Truth = tuple[float, int]


def _layers(trial: Any, context: SpaceContext) -> dict[str, Any]:
    layers = trial.suggest_int("n_fusion_layers", 1, 6)
    return {"method": "pmf", "n_fusion_layers": layers, "learning_rate": 1e-3}


def _space(layers: int) -> Space:
    """More layers take more memory; the first ones are tried in order."""
    return Space("layers", "", _layers, lambda _: [{"n_fusion_layers": n + 1} for n in range(layers)])


def _finish(searcher: ParetoSearcher, tune_id: str, truth: list[Truth], spread: float = 0.0) -> TrialRecord:
    """Report what is true of a configuration, and luck that depends on the seed."""
    record = searcher.history.leg(tune_id)
    share, offset = truth[record.config["n_fusion_layers"] - 1]
    lucky = share + spread * np.random.default_rng(record.seed).normal() if record.repeat_of else share
    return finish(searcher, tune_id, round(lucky * ROWS) / ROWS, {"validation": outputs_of(lucky, offset)})


def _race(
    truth: list[Truth], seeds: int = 3, *, spread: float = 0.0, **others: Any
) -> tuple[Any, Counter[int]]:
    """Run a search to its end; return its searcher and the number of repeats by layers."""
    searcher = make_searcher(_space(len(truth)), num_samples=len(truth), seeds=seeds, labels=LABELS, **others)
    while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
        assert isinstance(handed, dict)
        _finish(searcher, tune_id, truth, spread)
    return searcher, _repeats(searcher)


def _repeats(searcher: ParetoSearcher) -> Counter[int]:
    records = searcher.history.trials.values()
    return Counter(record.config["n_fusion_layers"] for record in records if record.repeat_of)


def test_what_is_clearly_different_is_not_repeated() -> None:
    searcher, repeats = _race([(0.5, 0), (0.7, 0), (0.6, 0)])
    assert repeats == {}
    assert list(searcher.evidence.chances().values()) == [1.0, 1.0, 0.0]


def test_all_repeats_go_to_what_is_unsure_and_its_strongest_rival() -> None:
    # The third is as good as the second, on other rows: which of them is on the front is luck.
    searcher, repeats = _race([(0.4, 0), (0.7, 0), (0.7025, 200), (0.9, 0)])
    assert repeats == {2: 2, 3: 2}, "both have all of their seeds"
    assert searcher.race.next() is None
    # None is repeated twice before the other one is once.
    order = [record.config["n_fusion_layers"] for record in searcher.history.trials.values()][4:]
    assert order[0] == 3
    assert set(order[:2]) == set(order[2:]) == {2, 3}


def test_what_the_front_has_passed_over_by_luck_is_repeated() -> None:
    searcher, repeats = _race([(0.7, 0), (0.6975, 200)])
    assert [record.config["n_fusion_layers"] for record in searcher.history.front()] == [1]
    assert repeats == {1: 1, 2: 1}


def test_a_cheap_one_that_was_lucky_does_not_keep_a_better_one_off() -> None:
    """It is on the front whatever it scores, but its luck decides about what costs more."""
    first, truth = [(0.72, 0), (0.71, 130)], [(0.69, 0), (0.71, 130)]
    searcher = make_searcher(_space(2), num_samples=2, seeds=5, labels=LABELS)
    for _ in first:
        searcher.suggest(tune_id := next(TUNE_IDS))
        _finish(searcher, tune_id, first)
    assert [record.trial_id for record in searcher.history.front()] == ["trial-000"]
    while isinstance(searcher.suggest(tune_id := next(TUNE_IDS)), dict):
        _finish(searcher, tune_id, truth, spread=0.005)
    assert [record.trial_id for record in searcher.history.front()] == ["trial-000", "trial-001"]


def test_the_most_unsure_comes_first_and_the_budget_ends_it() -> None:
    # Of the front's three members one is sure; the others are likely to be, and as unsure as can be.
    truth = [(0.5, 0), (0.54, 200), (0.545, 0)]
    searcher = make_searcher(_space(3), num_samples=3, seeds=9, labels=LABELS)
    for _ in truth:
        searcher.suggest(tune_id := next(TUNE_IDS))
        _finish(searcher, tune_id, truth)
    chances = list(searcher.evidence.chances().values())
    assert 0.75 < chances[1] < 0.95
    assert 0.4 < chances[2] < 0.75
    assert searcher.race.next().config["n_fusion_layers"] == 3
    _, repeats = _race([(0.7, 0), *((0.7025 + 0.0025 * n, 66 * n) for n in range(1, 6))], seeds=2)
    assert sum(repeats.values()) <= 6, "as many as if each member of the front had been repeated"


def test_the_budget_is_that_of_the_front_when_the_race_began() -> None:
    searcher, repeats = _race([(0.7, 0), *((0.69, 66 * n) for n in range(1, 6))], seeds=3)
    assert len(searcher.history.front()) == 1
    assert sum(repeats.values()) == 2, "five are unsure, and there are two repeats for the one on the front"


def test_repeats_at_once_go_to_different_configurations() -> None:
    truth = [(0.7, 0), (0.7025, 130), (0.705, 260)]
    searcher = make_searcher(_space(3), node=Node(cpus=64), num_samples=3, seeds=3, labels=LABELS)
    for _ in truth:
        searcher.suggest(tune_id := next(TUNE_IDS))
        _finish(searcher, tune_id, truth)
    handed = []
    while isinstance(searcher.suggest(tune_id := next(TUNE_IDS)), dict):
        handed.append(searcher.history.leg(tune_id).config["n_fusion_layers"])
    assert sorted(handed[:3]) == [1, 2, 3]


def test_a_lucky_first_result_is_found_out_and_then_left() -> None:
    searcher = make_searcher(_space(2), num_samples=2, seeds=40, labels=LABELS)
    for truth in ([(0.7, 0)], [(0.7, 0), (0.705, 0)]):
        searcher.suggest(tune_id := next(TUNE_IDS))
        _finish(searcher, tune_id, truth)
    assert len(searcher.history.front()) == 2
    while isinstance(searcher.suggest(tune_id := next(TUNE_IDS)), dict):
        _finish(searcher, tune_id, [(0.7, 0), (0.68, 0)], spread=0.01)  # what it really is
    repeats = _repeats(searcher)
    assert set(repeats) == {1, 2}, "its rival may have been unlucky"
    assert 1 < repeats[2] < 12, "of 39 that it might have had"
    assert abs(repeats[1] - repeats[2]) <= 1
    assert searcher.evidence.chances()["trial-001"] < DOUBT
    assert [record.trial_id for record in searcher.history.front()] == ["trial-000"]


def _driven(folder: Path, truth: list[Truth], seeds: int, stops: int | None = None) -> list[tuple[int, int]]:
    """Run a search that may be there already; return layers and seeds in the order of training."""
    searcher = make_searcher(
        _space(len(truth)), folder=folder, num_samples=len(truth), seeds=seeds, labels=LABELS
    )
    ran = []
    while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
        assert isinstance(handed, dict)
        record = searcher.history.leg(tune_id)
        ran.append((record.config["n_fusion_layers"], record.seed))
        if len(ran) == stops:
            break  # killed while it runs
        _finish(searcher, tune_id, truth, spread=0.02)
    searcher.store.close()
    return ran


def test_interrupted_it_is_the_race_in_one(tmp_path) -> None:
    truth = [(0.7, 0), (0.71, 130), (0.715, 260), (0.5, 0)]
    whole = _driven(tmp_path / "whole", truth, seeds=4)
    assert len(whole) > 6
    first = _driven(tmp_path / "parts", truth, seeds=4, stops=6)
    rest = _driven(tmp_path / "parts", truth, seeds=4)
    assert [*first, *rest[1:]] == whole
    assert rest[0] == first[-1], "the one that was cut off goes on"


def test_a_race_resumed_with_more_seeds_goes_on_where_it_was(tmp_path) -> None:
    truth = [(0.7, 0), (0.7025, 200)]
    assert len(_driven(tmp_path, truth, seeds=1)) == 2
    more = _driven(tmp_path, truth, seeds=2)
    assert [layers for layers, _ in more] == [2, 1]
    again = _driven(tmp_path, truth, seeds=4)
    assert [layers for layers, _ in again] == [2, 1, 2, 1]
    assert len(set(more + again)) == 6, "each repeat of a configuration has a seed of its own"


def test_a_member_whose_outputs_are_lost_counts_as_unsure(tmp_path) -> None:
    truth = [(0.5, 0), (0.7, 0), (0.6, 0)]
    searcher = make_searcher(_space(3), folder=tmp_path, num_samples=3, labels=LABELS)
    for _ in truth:
        searcher.suggest(tune_id := next(TUNE_IDS))
        _finish(searcher, tune_id, truth)
    searcher.store.close()
    (tmp_path / "outputs" / "trial-001.validation.npy").unlink()
    resumed = make_searcher(_space(3), folder=tmp_path, num_samples=3, seeds=2, labels=LABELS)
    assert list(resumed.evidence.chances()) == ["trial-000", "trial-002"]
    assert resumed.race.next().trial_id == "trial-001"


def test_nothing_of_the_test_split_reaches_a_choice() -> None:
    """Whatever the trials put out for the test split, the same ones are handed out."""

    def handed_out(offset: int) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
        searcher = make_searcher(_space(1), sampler="ehvi", num_samples=5, seeds=3, labels=LABELS, epochs=1)
        trials: list[tuple[Any, ...]] = []
        while isinstance(handed := searcher.suggest(tune_id := next(TUNE_IDS)), dict):
            assignment = handed["assignment"]
            trials.append((assignment.config["n_fusion_layers"], assignment.seed))
            share, place = 0.7 + 0.0025 * len(trials), 66 * len(trials)
            kept = {"validation": outputs_of(share, place), "test": outputs_of(0.5, offset * len(trials))}
            tested = {"test_split": {"accuracy": 0.1 * (offset + len(trials)) % 1}}
            finish(searcher, tune_id, share, kept, **tested)
        return trials, searcher.evidence.chances()

    trials, chances = handed_out(0)
    assert len(trials) > 6, "some are repeated"
    assert handed_out(7) == (trials, chances)


def test_probes_are_never_repeated_and_what_they_dominate_is_not_either() -> None:
    for labels in (LABELS, {}):  # with outputs and without
        searcher = make_searcher(_space(2), num_samples=2, seeds=3, labels=labels)
        probes(searcher.history, 0.1, 0.6)
        while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
            assert isinstance(handed, dict)
            _finish(searcher, tune_id, [(0.5, 0), (0.7, 0)])
        assert set(_repeats(searcher)) == (set() if labels else {2})
        assert [record.trial_id for record in searcher.history.front()] == ["probe", "trial-001"]


def test_the_configuration_of_a_training_gets_all_its_seeds_at_once() -> None:
    """It has no rivals, so that nothing about its place is unsure."""
    searcher = make_searcher(
        _space(1), num_samples=1, seeds=3, method="pmf", labels=LABELS, node=Node(cpus=8, memory=2**40)
    )
    handed = [searcher.suggest(next(TUNE_IDS)) for _ in range(3)]
    assert len({each["assignment"].seed for each in handed}) == 3
    assert searcher.suggest(next(TUNE_IDS)) is None, "all are under way"
    assert sum(_repeats(searcher).values()) == 2
