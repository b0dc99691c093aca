"""The searcher without Ray: what it asks, refuses, reuses, tells and keeps, whatever the sampler."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.engine.prior import Prior
from search.engine.searcher import ParetoSearcher
from search.nodes import Node
from search.records.history import TrialRecord, canonical
from search.records.status import Status
from search.testing.searching import DIVERGED, GPU, end, finish, make_searcher, out_of_memory, report, result
from search.units import GIB, MIB
from spaces import Space, SpaceContext
from tests.search.reporting.histories import probes
from trainables.errors import UserError
from trainables.seeds import MAX_SEED, derive_seed
from trainables.trial.assignment import Bar

TUNE_IDS = map(str, count())


def _layers(trial: Any, context: SpaceContext) -> dict[str, Any]:
    layers = trial.suggest_int("n_fusion_layers", 1, 6)
    return {"method": "pmf", "n_fusion_layers": layers, "learning_rate": 1e-3}


#: The first three that are tried are those with 1, 2 and 3 layers.
LAYERS = Space("layers", "", _layers, lambda _: [{"n_fusion_layers": layers} for layers in (1, 2, 3)])


def _start(searcher: ParetoSearcher, tune_id: str | None = None) -> tuple[str, TrialRecord]:
    """Have a trial handed out; return Tune's id and its record."""
    tune_id = tune_id or next(TUNE_IDS)
    _assigned(searcher, tune_id)
    return tune_id, searcher.history.leg(tune_id)


def _assigned(searcher: ParetoSearcher, tune_id: str) -> Any:
    """Have a trial handed out; return its assignment."""
    handed = searcher.suggest(tune_id)
    assert isinstance(handed, dict)
    return handed["assignment"]


def test_first_points_are_the_papers() -> None:
    _, record = _start(make_searcher())
    assert record.config["n_fusion_layers"] == 2
    assert {record.config[f"n_{k}_prompts"] for k in ("query", "query_context", "fusion_context")} == {4}
    assert record.config["translator_width"] == 192


def test_a_trial_is_scored_if_it_joins_the_front_or_is_the_best_of_its_method() -> None:
    searcher = make_searcher(LAYERS)
    one, two, three = (_assigned(searcher, tune_id) for tune_id in "abc")
    assert one.bar == two.bar == three.bar == Bar("accuracy"), "nothing has finished"
    finish(searcher, "b", 0.6)  # of two fused layers
    finish(searcher, "c", 0.7)
    finish(searcher, "a", 0.3)
    for number in range(3):
        tune_id = f"later {number}"
        later = _assigned(searcher, tune_id)
        assert later.config["n_fusion_layers"] > 3, "and thus in no way cheaper"
        assert later.bar == Bar("accuracy", at_least=0.7)
        finish(searcher, tune_id, 0.1)


def test_several_trained_objectives_are_scored_in_the_end() -> None:
    assert _assigned(make_searcher(objectives=("memory", "accuracy", "loss")), "a").bar is None
    assert _assigned(make_searcher(objectives=("memory", "loss")), "a").bar == Bar("loss")


def test_a_running_configuration_is_not_started_again() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        return {"method": "linear", "learning_rate": trial.suggest_categorical("learning_rate", [0.1])}

    searcher = make_searcher(Space("one", "", sample, lambda _: []))
    assert _assigned(searcher, "a").config["learning_rate"] == 0.1
    assert searcher.suggest("b") is None
    finish(searcher, "a", 0.5)
    assert searcher.suggest("b") == "FINISHED"


def test_only_complete_trials_inform_the_sampler() -> None:
    searcher = make_searcher()
    for trial_id in ("whole", "cut", "broken"):
        searcher.suggest(trial_id)
    finish(searcher, "whole", 0.7)
    searcher.recorder.report("cut", {"epoch": 1, "accuracy": 0.9, "loss": 1.0})
    searcher.on_trial_complete("cut", None)
    searcher.on_trial_complete("broken", None, error=True)
    states = {n: r.status for n, r in searcher.history.trials.items()}
    assert states == {"trial-000": "finished", "trial-001": "stopped", "trial-002": "failed"}
    whole, cut, broken = searcher.study.study.trials
    assert (whole.values[1], max(whole.constraints.values())) == (0.7, 0)
    assert cut.constraints["unfinished"] == 0.5, "half of its epochs are missing"
    assert broken.state is TrialState.FAIL
    assert searcher.study.study.best_trials == [whole]
    assert [r.trial_id for r in searcher.history.front()] == ["trial-000"]


def _told(searcher: ParetoSearcher, number: int) -> Any:
    return searcher.study.study.trials[number]


def test_memory_is_predicted_once_for_a_trial_that_is_handed_out() -> None:
    searcher = make_searcher(node=GPU, sampler="random")
    predictor: Any = searcher.setup.predictor
    for tune_id in ("a", "b"):
        config = _assigned(searcher, tune_id).config
        assert predictor.asked[canonical(config)] == predictor.as_run[canonical(config)] == 1
    assert sum(predictor.as_run.values()) == 2, "nothing is asked again of what runs"


def test_memory_that_others_took_is_no_answer_but_asked_for_once_more() -> None:
    searcher = make_searcher(num_samples=1, node=GPU)
    assigned = _assigned(searcher, "first")
    first = searcher.history.leg("first")
    assert not first.alone
    assert first.memory.total <= assigned.granted < 4 * GIB
    assert searcher.suggest("early") is None, "the open trial may come back"
    end(searcher, "first", out_of_memory(below_share=True))
    again = _assigned(searcher, "again")
    assert (again.config, again.granted) == (assigned.config, 4 * GIB)
    assert searcher.suggest("another") is None
    second = searcher.history.leg("again")
    assert (first.status, second.retry_of, second.alone) == ("retried", "trial-000", True)
    assert _told(searcher, 0).state is TrialState.RUNNING
    finish(searcher, "again", 0.5)
    assert second.status == Status.FINISHED
    assert searcher.suggest("last") == "FINISHED"
    assert [trial.state for trial in searcher.study.study.trials].count(TrialState.COMPLETE) == 1
    assert _told(searcher, 0).values[1] == 0.5


def test_out_of_memory_alone_or_within_the_share_is_final() -> None:
    searcher = make_searcher(num_samples=2)
    searcher.suggest("a")
    end(searcher, "a", out_of_memory(below_share=False))
    searcher.suggest("b")
    end(searcher, "b", out_of_memory(below_share=True))
    searcher.suggest("b again")
    end(searcher, "b again", out_of_memory(below_share=True))
    assert searcher.suggest("c") == "FINISHED"
    statuses = {name: record.status for name, record in searcher.history.trials.items()}
    assert statuses == {"trial-000": "out_of_memory", "trial-001": "retried", "trial-002": "out_of_memory"}
    assert searcher.history.front() == searcher.study.study.best_trials == []
    for trial in searcher.study.study.trials:
        assert trial.state is TrialState.COMPLETE
        assert trial.constraints["device memory"] > 0


@pytest.mark.parametrize(
    ("mine", "other", "status"),
    [
        ("10.0.0.1", "10.0.0.1", "retried"),
        ("10.0.0.1", None, "retried"),  # has not said yet where it runs
        ("10.0.0.1", "10.0.0.2", "out_of_memory"),
    ],
)
def test_where_shares_are_unknown_neighbours_count(mine, other, status) -> None:
    searcher = make_searcher()
    searcher.suggest("mine")
    searcher.suggest("other")
    if other:
        searcher.recorder.report("other", {"epoch": 1, "accuracy": 0.1, "loss": 1.0, "node_ip": other})
    end(searcher, "mine", {**out_of_memory(), "node_ip": mine})
    assert searcher.history.leg("mine").status == status


def test_a_diverged_trial_is_infeasible_at_its_memory_and_tells_no_number() -> None:
    searcher = make_searcher(num_samples=1)
    searcher.suggest("a")
    end(searcher, "a", DIVERGED)
    record, told = searcher.history.leg("a"), _told(searcher, 0)
    assert (record.status, record.message) == ("diverged", "diverged (validation): the loss became nan")
    assert told.constraints == {"device memory": 0, "unfinished": 1}
    assert told.values == [record.values["memory"], 0.0]


def test_a_repeat_is_told_how_the_first_one_ended() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        trial.suggest_float("unused", 0, 1)
        return {"method": "linear", "learning_rate": 0.1}

    searcher = make_searcher(Space("one", "", sample, lambda _: []), sampler="random")
    searcher.suggest("a")
    end(searcher, "a", out_of_memory(below_share=False))
    assert searcher.suggest("b") == "FINISHED"
    assert searcher.candidates.exhausted
    assert all(trial.constraints["device memory"] > 0 for trial in searcher.study.study.trials)


@pytest.mark.parametrize("seed", [0, 4295, 20261126, 2**31, MAX_SEED])
@pytest.mark.parametrize("counted", [True, False], ids=["counted", "drawn"])
def test_with_any_seed_a_space_is_seen_whole(seed, counted) -> None:
    """The rest of a space that cannot be counted is drawn at random, and another seed draws others."""

    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        if not counted:
            trial.suggest_float("unused", 0, 1)
        return _layers(trial, context)

    def seen(seed: int) -> tuple[list[int], list[dict[str, Any]]]:
        searcher = make_searcher(Space("six", "", sample, lambda _: []), sampler="random", seed=seed)
        layers = []
        while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
            assert isinstance(handed, dict)
            layers.append(handed["assignment"].config["n_fusion_layers"])
            assert handed["assignment"].seed == seed
            finish(searcher, tune_id, 0.5)
        assert searcher.candidates.exhausted
        return layers, [trial.params for trial in searcher.study.study.trials]

    layers, asked = seen(seed)
    assert sorted(layers) == [1, 2, 3, 4, 5, 6]
    assert seen(seed) == (layers, asked)
    assert seen((seed + 1) % MAX_SEED)[1] != asked


def test_a_full_cluster_is_not_asked_for_more() -> None:
    searcher = make_searcher(node=GPU)
    searcher.suggest("a")
    searcher.suggest("b")
    end(searcher, "a", out_of_memory(below_share=True))
    assert _start(searcher, "a again")[1].alone
    assert searcher.suggest("c") is None, "or small ones would keep it waiting"
    finish(searcher, "a again", 0.5)
    _start(searcher, "c")


def test_what_no_device_holds_is_infeasible_too() -> None:
    searcher = make_searcher(node=Node(cpus=8, memory=1536 * MIB))
    for number in range(15):
        assert _assigned(searcher, f"t{number}").granted <= 1536 * MIB
        finish(searcher, f"t{number}", 0.5)
    feasible = max(record.memory.total for record in searcher.history.trials.values())
    assert searcher.history.infeasible
    assert all(c.memory.total > feasible for c in searcher.history.infeasible.values())


def test_a_list_is_trained_and_nothing_else(tmp_path) -> None:
    points = [{"n_fusion_layers": layers} for layers in (3, 1, 6, 1)]
    settings: dict[str, Any] = {"folder": tmp_path, "num_samples": 50, "max_memory": 650 * MIB}
    searcher = make_searcher(LAYERS, listed=points, **settings)
    for layers in (3, 1):
        tune_id, record = _start(searcher)
        assert record.config["n_fusion_layers"] == layers
        finish(searcher, tune_id, 0.5)
    assert searcher.suggest("more") == Searcher.FINISHED, "the third is above the budget, the last a repeat"
    assert len(searcher.history.infeasible) == 1
    searcher.store.close()
    longer = make_searcher(LAYERS, listed=[*points, {"n_fusion_layers": 2}], **settings)
    tune_id, record = _start(longer)
    assert record.config["n_fusion_layers"] == 2
    finish(longer, tune_id, 0.5)
    assert longer.suggest("more") == Searcher.FINISHED


def test_samples_are_counted_and_what_is_left_over_is_stopped() -> None:
    searcher = make_searcher(num_samples=3)
    for name in ("done", "crowded", "running"):
        searcher.suggest(name)
    finish(searcher, "done", 0.5)
    end(searcher, "crowded", out_of_memory(below_share=True))
    assert searcher.history.close()
    assert [record.status for record in searcher.history.trials.values()] == [
        "finished",
        "retried",
        "stopped",
        "stopped",
    ]


def test_when_tune_breaks_off_the_killed_end_and_the_others_go_on() -> None:
    searcher = make_searcher(num_samples=2)
    configs = {name: _assigned(searcher, name).config for name in ("killed", "other")}
    killed, other = (searcher.history.leg(name) for name in configs)
    killed.worker, other.worker = "153a755f", "5e7894a1"
    searcher.recorder.report("other", {"epoch": 1, "accuracy": 0.4, "loss": 1.0})
    other.checkpoint = "where/it/was"
    words = "1 worker(s) were killed …\nSelected to kill: (Actor(153a755f): …, pid=1)"
    searcher.break_off(words)
    assert (killed.status, killed.message[:13]) == ("retried", "out of memory")
    goes_on = _assigned(searcher, "new")
    assert goes_on.config == configs["other"]
    assert goes_on.checkpoint is not None
    assert goes_on.checkpoint.path == searcher.config.place.inside("where/it/was")
    assert _start(searcher, "again")[1].alone
    end(searcher, "new", {"epoch": 2, "accuracy": 0.5, "loss": 1.0})
    assert searcher.history.leg("new") is other
    assert [epoch["accuracy"] for epoch in other.epochs] == [0.4, 0.5]
    assert (other.status, searcher.study.study.trials[1].values[1]) == ("finished", 0.5)
    finish(searcher, "again", 0.6)
    assert searcher.suggest("more") == "FINISHED"


def test_trials_killed_together_were_in_each_others_way() -> None:
    searcher = make_searcher(num_samples=2)
    for name in ("a", "b"):
        searcher.suggest(name)
        searcher.history.leg(name).worker = f"worker of {name}"
    searcher.break_off("2 worker(s) were killed: worker of a, worker of b")
    assert [searcher.history.leg(name).status for name in ("a", "b")] == ["retried", "retried"]


def test_nothing_is_left_over_at_the_end_of_a_search() -> None:
    searcher = make_searcher(num_samples=1)
    searcher.suggest("a")
    finish(searcher, "a", 0.5)
    assert searcher.suggest("b") == "FINISHED"
    assert not searcher.history.close()


def test_front_and_hypervolume() -> None:
    searcher = make_searcher()
    accuracies = [0.5, 0.9, 0.2]
    for number, accuracy in enumerate(accuracies):
        searcher.suggest(f"t{number}")
        finish(searcher, f"t{number}", accuracy)
    history = searcher.history
    front = {r.trial_id for r in history.front()}
    for record in history.trials.values():
        better = [
            o
            for o in history.trials.values()
            if o.values["memory"] < record.values["memory"]
            and o.values["accuracy"] > record.values["accuracy"]
        ]
        if better:
            assert record.trial_id not in front
    assert "trial-001" in front
    assert 0 < history.hypervolume() < 1
    assert history.best()["accuracy"] == 0.9


# several seeds


#: The seeds of a configuration's runs in a search with seed 0.
SEEDS = [0, *(derive_seed(0, "repeat", number) for number in (1, 2))]


def _run_all(searcher: ParetoSearcher, accuracies: dict[int, list[float]]) -> list[tuple[int, int]]:
    """Train to the end of the search, with accuracies by layers and run; return layers and runs."""
    ran = []
    while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
        assert isinstance(handed, dict)
        assignment = handed["assignment"]
        ran.append((assignment.config["n_fusion_layers"], SEEDS.index(assignment.seed)))
        finish(searcher, tune_id, accuracies[ran[-1][0]][ran[-1][1]])
    return ran


def _front(searcher: ParetoSearcher) -> list[int]:
    return [record.config["n_fusion_layers"] for record in searcher.history.front()]


def test_the_front_is_repeated_with_other_seeds_and_goes_by_means() -> None:
    searcher = make_searcher(LAYERS, num_samples=3, seeds=3)
    accuracies = {1: [0.5, 0.5, 0.6], 2: [0.9, 0.2, 0.3], 3: [0.8, 0.7, 0.75]}
    ran = _run_all(searcher, accuracies)
    assert ran[:3] == [(1, 0), (2, 0), (3, 0)], "nothing is repeated while there are samples left"
    # The lucky one falls behind, and the one that it had kept off the front is repeated in its turn.
    assert ran[3:] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert _front(searcher) == [1, 3]
    history = searcher.history
    for record, layers in zip(history.front(), (1, 3), strict=True):
        assert history.values(record)["accuracy"] == pytest.approx(mean(accuracies[layers]))
        assert history.spreads(record)["accuracy"] == pytest.approx(stdev(accuracies[layers]))
    assert history.best()["accuracy"] == pytest.approx(0.75)
    repeats = [record for record in history.trials.values() if record.repeat_of]
    assert [record.repeat_of for record in repeats[::2]] == ["trial-000", "trial-001", "trial-002"]
    assert searcher.samples == len(searcher.study) == 3, "repeats are no samples"


def test_of_one_seed_nothing_is_repeated() -> None:
    searcher = make_searcher(LAYERS, num_samples=2)
    assert _run_all(searcher, {1: [0.5], 2: [0.6]}) == [(1, 0), (2, 0)]
    assert searcher.history.spreads(searcher.history.front()[0]) == {}


def test_repeats_that_fail_come_to_an_end_and_change_nothing() -> None:
    searcher = make_searcher(LAYERS, num_samples=1, seeds=3)
    finish(searcher, _start(searcher)[0], 0.5)
    for seed in SEEDS[1:]:
        tune_id, record = _start(searcher)
        assert record.seed == seed
        searcher.on_trial_complete(tune_id, error=True)
    assert searcher.suggest("more") == Searcher.FINISHED
    assert searcher.history.values(searcher.history.front()[0])["accuracy"] == 0.5


def test_a_repeat_for_which_there_was_no_memory_keeps_its_seed() -> None:
    searcher = make_searcher(LAYERS, node=GPU, num_samples=1, seeds=2)
    finish(searcher, _start(searcher)[0], 0.5)
    end(searcher, _start(searcher)[0], out_of_memory(below_share=True))
    tune_id, again = _start(searcher)
    assert (again.seed, again.alone) == (SEEDS[1], True)
    assert (again.repeat_of, again.retry_of) == ("trial-000", "trial-001")
    finish(searcher, tune_id, 0.7)
    assert searcher.suggest("more") == Searcher.FINISHED
    assert searcher.history.values(again)["accuracy"] == pytest.approx(0.6)


def test_repeats_go_on_after_an_interruption(tmp_path) -> None:
    settings: dict[str, Any] = {"folder": tmp_path, "num_samples": 3, "seeds": 3}
    accuracies = {1: [0.5, 0.5, 0.6], 2: [0.9, 0.2, 0.3], 3: [0.8, 0.7, 0.75]}
    searcher = make_searcher(LAYERS, **settings)
    for layers, seed in ((1, 0), (2, 0), (3, 0), (1, 1)):
        finish(searcher, _start(searcher)[0], accuracies[layers][seed])
    _, begun = _start(searcher)
    searcher.store.close()
    resumed = make_searcher(LAYERS, **settings)
    assert _front(resumed) == [1, 2]
    assert _run_all(resumed, accuracies) == [(1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert resumed.history.trials[begun.trial_id].legs == 2
    assert _front(resumed) == [1, 3]


def test_a_repeat_is_trained_whole() -> None:
    searcher = make_searcher(
        LAYERS, num_samples=2, seeds=2, epochs=3, scheduler="asha", objectives=("memory", "accuracy")
    )
    for accuracy in (0.5, 0.6):
        tune_id, record = _start(searcher)
        while record.status == Status.RUNNING:
            report(searcher, tune_id, accuracy)
    tune_id, repeat = _start(searcher)
    assert repeat.repeat_of == "trial-000"
    for _ in range(3):
        report(searcher, tune_id, 0.1)  # any other trial would be paused
    assert repeat.status == Status.FINISHED


# constraints


def test_what_breaks_which_constraint_is_told_by_name() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        config = _layers(trial, context)
        return {**config, "translator_width": trial.suggest_int("translator_width", 100, 1000)}

    names = ("n_fusion_layers", "translator_width")
    points = [dict(zip(names, point, strict=True)) for point in ((4, 100), (2, 1000), (1, 100), (2, 100))]
    searcher = make_searcher(
        Space("two", "", sample, lambda _: points),
        max_memory=500 * MIB,
        constraints=("params<=1600", "checkpoint<=0.005MiB", "accuracy>=60%"),
    )
    poor, _ = _start(searcher)
    finish(searcher, poor, 0.45)
    good, _ = _start(searcher)
    finish(searcher, good, 0.6)
    memory, params, checkpoint, accuracy = map(str, searcher.history.constraints)
    kept = {memory: 0, params: 0, checkpoint: 0, accuracy: 0, "device memory": 0, "unfinished": 0}
    dear, large, told_poor, told_good = searcher.study.study.trials
    assert {name for name in kept if dear.constraints[name] > 0} == {memory}
    assert dear.constraints[memory] == pytest.approx(0.2), "600 MiB of 500"
    assert {name for name in kept if large.constraints[name] > 0} == {params, checkpoint}
    assert large.constraints[params] == pytest.approx(0.25), "2000 of 1600"
    assert {name for name in kept if told_poor.constraints[name] > 0} == {accuracy}
    assert told_poor.constraints[accuracy] == pytest.approx(0.25), "a quarter of 60 % is missing"
    assert max(told_good.constraints.values()) <= 0
    assert all(set(trial.constraints) == set(kept) for trial in searcher.study.study.trials)
    assert _front(searcher) == [2], "though the poor one takes less memory"
    assert searcher.study.study.best_trials == [told_good]
    assert len(searcher.history.infeasible) == 2


# what another search found


def test_prior_results_are_told_and_prior_points_come_after_the_spaces_own(tmp_path: Path) -> None:
    results = [
        ({"n_fusion_layers": 5}, {"loss": 1.0, "accuracy": 0.5, "memory": 0.7}),
        ({"n_fusion_layers": 6}, {"loss": 1.0, "accuracy": 0.6, "memory": 0.8}),
    ]
    prior = Prior([{"n_fusion_layers": 6}, {"n_fusion_layers": 4}], results)
    searcher = make_searcher(LAYERS, folder=tmp_path, prior=prior, num_samples=5)
    told = searcher.study.study.trials
    assert [trial.values for trial in told] == [[0.7, 0.5], [0.8, 0.6]]
    assert {trial.state for trial in told} == {TrialState.COMPLETE}
    assert all(max(trial.constraints.values()) <= 0 for trial in told)
    assert searcher.history.trials == {}, "they are no trials of this search"
    layers = []
    for _ in range(4):
        tune_id, record = _start(searcher)
        layers.append(record.config["n_fusion_layers"])
        finish(searcher, tune_id, 0.5)
    assert _front(searcher) == [1]
    searcher.store.close()

    resumed = make_searcher(LAYERS, folder=tmp_path, num_samples=5)
    assert len(resumed.study) == len(results) + 4, "told once"
    layers.append(_start(resumed)[1].config["n_fusion_layers"])
    assert layers == [1, 2, 3, 6, 4]


def test_prior_results_take_the_place_of_a_random_start() -> None:
    points = [{"n_fusion_layers": 1 + number % 6} for number in range(12)]
    results = [(point, {"memory": 1.0 - 0.05 * n, "accuracy": 0.5}) for n, point in enumerate(points)]
    proposals = []
    for prior in (Prior(), Prior((), results)):
        searcher = make_searcher(LAYERS, prior=prior, seed=3)
        proposals.append([_start(searcher)[1].config["n_fusion_layers"] for _ in range(6)])
    assert proposals[0][:3] == proposals[1][:3] == [1, 2, 3]
    assert proposals[0] != proposals[1]


# trials that are paused or stopped


def test_how_much_is_missing_is_told_of_partial_trials() -> None:
    searcher = make_searcher(epochs=4)
    for epochs in range(4):
        tune_id, _ = _start(searcher)
        for _ in range(epochs):
            report(searcher, tune_id, 0.9)
        searcher.on_trial_complete(tune_id)
    whole, _ = _start(searcher)
    finish(searcher, whole, 0.3)
    nothing, *partial, finished = searcher.study.study.trials
    assert nothing.state is TrialState.FAIL
    assert [trial.constraints["unfinished"] for trial in partial] == [0.75, 0.5, 0.25]
    assert [trial.values[1] for trial in partial] == [0.9] * 3
    assert searcher.study.study.best_trials == [finished]
    assert [record.values["accuracy"] for record in searcher.history.front()] == [0.3]


def test_what_was_begun_goes_on_before_anything_new() -> None:
    searcher = make_searcher(
        epochs=9,
        scheduler="pareto_asha",
        reduction_factor=3,
        min_epochs=1,
        objectives=("accuracy", "loss"),
    )
    assert searcher.setup.rule.milestones == (1, 3)
    first, running = _start(searcher)
    report(searcher, first, 0.5)
    records = [running]
    for accuracy in (0.4, 0.45, 0.3, 0.2):
        tune_id, record = _start(searcher)
        report(searcher, tune_id, accuracy)
        record.checkpoint = f"{record.trial_id}"
        records.append(record)
    assert [record.status for record in records] == ["running", *["paused"] * 4]
    second = records[2]
    assert second.number is not None
    told = searcher.study.frozen(second.number)
    assert (told.values, told.constraints["unfinished"]) == ([0.45, 0.55], pytest.approx(8 / 9))
    tune_id, sixth = _start(searcher)
    assert sixth.trial_id == "trial-005", "of five, one is good enough"
    report(searcher, tune_id, 0.1)

    searcher.break_off("nobody was killed")
    _, waiting = _start(searcher)
    assert waiting is running
    handed = _assigned(searcher, "of six, two")
    assert (handed.trial_id, handed.leg) == ("trial-002", 2)
    assert second.checkpoint is not None
    assert handed.checkpoint.path == searcher.config.place.inside(second.checkpoint)
    assert second.status == Status.RUNNING
    told = searcher.study.frozen(second.number)
    assert told.state is TrialState.RUNNING
    assert _start(searcher)[1].trial_id == "trial-006", "nothing else is good enough"

    for epoch in range(2, 10):
        assert second.status == Status.RUNNING
        report(searcher, "of six, two", 0.45 + 0.01 * epoch)
    assert second.status == Status.FINISHED
    told = searcher.study.frozen(second.number)
    assert (told.values, told.constraints["unfinished"]) == ([0.54, pytest.approx(0.46)], 0)
    assert searcher.study.study.best_trials == [told]
    assert searcher.history.close()
    assert [record.status for record in records] == ["stopped", "stopped", "finished", "stopped", "stopped"]


def test_a_search_ends_though_some_are_paused() -> None:
    searcher = make_searcher(
        epochs=3, scheduler="pareto_asha", objectives=("accuracy", "loss"), num_samples=2
    )
    for accuracy in (0.5, 0.4):
        tune_id, record = _start(searcher)
        while record.status == Status.RUNNING:
            report(searcher, tune_id, accuracy)
    assert searcher.suggest("more") == Searcher.FINISHED
    assert [record.status for record in searcher.history.trials.values()] == ["finished", "paused"]
    assert not searcher.history.close(), "nothing ran"


def test_what_the_median_rule_stops_stays_so() -> None:
    searcher = make_searcher(epochs=4, scheduler="median")
    for accuracy in (0.5, 0.6, 0.7):
        report(searcher, _start(searcher)[0], accuracy)
    tune_id, worst = _start(searcher)
    report(searcher, tune_id, 0.1)
    assert worst.status == Status.STOPPED
    assert _told(searcher, 3).constraints["unfinished"] == 0.75
    assert _start(searcher)[1].trial_id == "trial-004"


def test_an_epoch_that_is_done_again_is_not_judged_again() -> None:
    searcher = make_searcher(
        epochs=9,
        scheduler="pareto_asha",
        reduction_factor=3,
        min_epochs=1,
        objectives=("accuracy", "loss"),
    )
    tune_id, record = _start(searcher)
    report(searcher, tune_id, 0.3)
    report(searcher, tune_id, 0.35)
    other, better = _start(searcher)
    report(searcher, other, 0.6)
    assert (record.status, better.status) == ("running", "running")
    # Its worker died, and it goes on from an early checkpoint.
    assert searcher.recorder.report(tune_id, result(1, 0.1))
    assert [epoch["accuracy"] for epoch in record.epochs] == [0.3, 0.35]


def test_what_was_said_of_a_proposal_must_be_what_was_written(tmp_path: Path) -> None:
    searcher = make_searcher(folder=tmp_path / "s")
    searcher.suggest("leg0")
    searcher.store.close()
    with closing(sqlite3.connect(tmp_path / "s" / "search.sqlite")) as database:
        ((document,),) = database.execute("SELECT document FROM asked").fetchall()
        changed = json.dumps({**json.loads(document), "user_attrs": 3})
        database.execute("UPDATE asked SET document = ?", (changed,))
        database.commit()
    with pytest.raises(UserError, match=r"search\.sqlite: is damaged \(AttributeError: "):
        make_searcher(folder=tmp_path / "s")


@pytest.mark.parametrize("settings", [{}, {"defer": True}, {"sampler": "evolution"}])
def test_probes_change_nothing_that_is_proposed(settings) -> None:
    searchers = [make_searcher(num_samples=8, **settings) for _ in range(2)]
    probes(searchers[1].history, 0.35, 0.6, text=0.2)
    proposed: list[list[Any]] = [[], []]
    for number in range(8):
        for searcher, configs in zip(searchers, proposed, strict=True):
            searcher.suggest(str(number))
            configs.append(searcher.history.leg(str(number)).config)
            finish(searcher, str(number), 0.3 + 0.05 * configs[-1]["n_fusion_layers"])
    assert proposed[0] == proposed[1]
    assert next(record.trial_id for record in searchers[1].history.front()) == "probe:text"
    assert searchers[0].samples == searchers[1].samples == 8


def test_what_a_probe_dominates_need_not_be_scored_at_once() -> None:
    searcher = make_searcher(num_samples=3)
    searcher.suggest("a")
    first = finish(searcher, "a", 0.4)
    probes(searcher.history, 0.1, 0.6)
    searcher.suggest("b")
    assignment, _ = searcher.assignment(searcher.history.leg("b"))
    assert assignment.bar == Bar("accuracy", at_least=0.4), "the best of its method is scored in any case"
    assert first not in searcher.history.front()
