"""The searcher without Ray: what it asks, refuses, reuses and tells."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.config import SAMPLERS
from search.history import History, canonical
from search.objectives import get_objectives
from search.resources import Node, place
from search.study import ParetoSearcher, make_sampler
from spaces import Space, SpaceContext, get_space
from trainables.memory import MemoryReport
from trainables.setting import TrainingSetting

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
MIB, GIB = 2**20, 2**30
CPU = Node(cpus=8)
GPU = Node(cpus=8, gpus=1, gpu_memory=4 * GIB)


class CountingPredictor:
    """Memory grows with the fused layers; counts how often it is asked."""

    setting = TrainingSetting(prefix="computed")

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def predict_as_run(self, config: dict[str, Any], *, cached: bool) -> MemoryReport:
        return self.predict_configuration(config)

    def predict_configuration(self, config: dict[str, Any]) -> MemoryReport:
        self.asked[canonical(config)] += 1
        total = (200 + 100 * config.get("n_fusion_layers", 1)) * MIB
        return MemoryReport(total, total, 0, 0, 0, 0, trainable_parameters=1000, checkpoint=4000)


def _searcher(
    space: str | Space = "pmf_nas",
    sampler: str = "tpe",
    max_memory: int | None = None,
    seed: int = 0,
    epochs: int = 2,
    num_samples: int = 100,
    node: Node = CPU,
) -> ParetoSearcher:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    history = History(get_objectives(["memory", "accuracy"]), {"memory": 1.0, "accuracy": 0.0})
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=make_sampler(sampler, 20, seed))
    space = get_space(space) if isinstance(space, str) else space
    predictor: Any = CountingPredictor()
    placement = place([node], num_samples)
    return ParetoSearcher(
        study, space, CONTEXT, predictor, history, placement, num_samples, epochs, max_memory, cached=False
    )


def _finish(searcher: ParetoSearcher, trial_id: str, accuracy: float, epochs: int = 2) -> None:
    for epoch in range(1, epochs + 1):
        result = {"epoch": epoch, "accuracy": accuracy, "loss": 1.0}
        if epoch < epochs:
            searcher.on_trial_result(trial_id, result)
    searcher.on_trial_complete(trial_id, result)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_first_point_is_the_papers(sampler) -> None:
    first = _searcher(sampler=sampler).suggest("a")["config"]
    assert first["n_fusion_layers"] == 2
    assert {first[f"n_{k}_prompts"] for k in ("query", "query_context", "fusion_context")} == {4}
    assert first["translator_width"] == 192


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_over_budget_is_never_started_and_told_as_infeasible(sampler) -> None:
    searcher = _searcher(sampler=sampler, max_memory=450 * MIB)
    for number in range(15):
        started = searcher.suggest(f"t{number}")
        assert started["memory"] <= 450 * MIB
        assert started["config"]["n_fusion_layers"] <= 2
        _finish(searcher, f"t{number}", 0.5)
    told = [t for t in searcher.study.trials if t.constraints.get("memory", 0) > 0]
    assert len(told) >= len(searcher.history.infeasible) > 0
    assert all(t.state is TrialState.COMPLETE for t in told)
    assert all(t.constraints["memory"] <= 0 for t in searcher.study.best_trials)
    assert all(c.memory.total > 450 * MIB for c in searcher.history.infeasible.values())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_configuration_is_trained_twice_and_a_small_space_ends(sampler) -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        layers = trial.suggest_int("n_fusion_layers", 1, 3)
        return {"method": "pmf", "learning_rate": 1e-3, "n_fusion_layers": layers}

    searcher = _searcher(Space("small", "", sample, lambda _: []), sampler)
    started = []
    for number in range(10):
        suggestion = searcher.suggest(f"t{number}")
        if suggestion == "FINISHED":
            break
        started.append(suggestion["config"]["n_fusion_layers"])
        _finish(searcher, f"t{number}", 0.5)
    assert sorted(started) == [1, 2, 3]
    assert searcher.exhausted


def test_a_running_configuration_is_not_started_again() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        return {"method": "linear", "learning_rate": trial.suggest_categorical("learning_rate", [0.1])}

    searcher = _searcher(Space("one", "", sample, lambda _: []))
    assert searcher.suggest("a")["config"]["learning_rate"] == 0.1
    assert searcher.suggest("b") is None
    _finish(searcher, "a", 0.5)
    assert searcher.suggest("b") == "FINISHED"


def test_only_complete_trials_inform_the_sampler() -> None:
    searcher = _searcher()
    for trial_id in ("whole", "cut", "broken"):
        searcher.suggest(trial_id)
    _finish(searcher, "whole", 0.7)
    searcher.on_trial_result("cut", {"epoch": 1, "accuracy": 0.9, "loss": 1.0})
    searcher.on_trial_complete("cut", None)
    searcher.on_trial_complete("broken", None, error=True)
    states = {n: r.status for n, r in searcher.history.trials.items()}
    assert states == {"whole": "finished", "cut": "stopped", "broken": "failed"}
    complete = [t for t in searcher.study.trials if t.state is TrialState.COMPLETE]
    assert [t.values[1] for t in complete] == [0.7]
    assert [r.trial_id for r in searcher.history.front()] == ["whole"]


OUT_OF_MEMORY = {
    "status": "out_of_memory",
    "stage": "training",
    "message": "CUDA out of memory.",
    "done": True,
}
DIVERGED = {"status": "diverged", "stage": "validation", "message": "the loss became nan", "done": True}


def _told(searcher: ParetoSearcher, number: int) -> Any:
    return searcher.study.trials[number]


def test_memory_that_others_took_is_no_answer_but_asked_for_once_more() -> None:
    searcher = _searcher(num_samples=1, node=GPU)
    handed_out = searcher.suggest("first")
    config = handed_out["config"]
    assert not handed_out["alone"]
    assert handed_out["memory"] <= handed_out["needed"] <= handed_out["granted"] < 4 * GIB
    assert searcher.suggest("early") is None, "the open trial may come back"
    searcher.on_trial_complete("first", {**OUT_OF_MEMORY, "below_share": True})
    again = searcher.suggest("again")
    assert (again["config"], again["alone"], again["granted"]) == (config, True, 4 * GIB)
    assert searcher.suggest("another") is None
    first, second = searcher.history.trials["first"], searcher.history.trials["again"]
    assert (first.status, second.retry_of) == ("retried", "first")
    assert _told(searcher, 0).state is TrialState.RUNNING
    _finish(searcher, "again", 0.5)
    assert second.status == "finished"
    assert searcher.suggest("last") == "FINISHED"
    assert [trial.state for trial in searcher.study.trials].count(TrialState.COMPLETE) == 1
    assert _told(searcher, 0).values[1] == 0.5


def test_out_of_memory_alone_or_within_the_share_is_final() -> None:
    searcher = _searcher(num_samples=2)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {**OUT_OF_MEMORY, "below_share": False})
    searcher.suggest("b")
    searcher.on_trial_complete("b", {**OUT_OF_MEMORY, "below_share": True})
    searcher.suggest("b again")
    searcher.on_trial_complete("b again", {**OUT_OF_MEMORY, "below_share": True})
    assert searcher.suggest("c") == "FINISHED"
    statuses = {name: record.status for name, record in searcher.history.trials.items()}
    assert statuses == {"a": "out_of_memory", "b": "retried", "b again": "out_of_memory"}
    assert searcher.history.front() == searcher.study.best_trials == []
    for trial in searcher.study.trials:
        assert trial.state is TrialState.COMPLETE
        assert trial.constraints["memory"] > 0


@pytest.mark.parametrize(
    ("mine", "other", "status"),
    [
        ("10.0.0.1", "10.0.0.1", "retried"),
        ("10.0.0.1", None, "retried"),  # has not said yet where it runs
        ("10.0.0.1", "10.0.0.2", "out_of_memory"),
    ],
)
def test_where_shares_are_unknown_neighbours_count(mine, other, status) -> None:
    searcher = _searcher()
    searcher.suggest("mine")
    searcher.suggest("other")
    if other:
        searcher.on_trial_result("other", {"epoch": 1, "accuracy": 0.1, "loss": 1.0, "node_ip": other})
    searcher.on_trial_complete("mine", {**OUT_OF_MEMORY, "below_share": None, "node_ip": mine})
    assert searcher.history.trials["mine"].status == status


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("max_memory", [None, 600 * MIB])
def test_samplers_live_with_every_kind_of_end(sampler, max_memory, recwarn) -> None:
    searcher = _searcher(sampler=sampler, max_memory=max_memory)
    for number in range(24):
        trial_id = f"t{number}"
        searcher.suggest(trial_id)
        if number % 4 == 1:
            searcher.on_trial_complete(trial_id, {**OUT_OF_MEMORY, "below_share": False})
        elif number % 4 == 2:
            searcher.on_trial_complete(trial_id, {**DIVERGED, "below_share": None})
        elif number % 8 == 3:
            searcher.on_trial_complete(trial_id, error=True)
        else:
            _finish(searcher, trial_id, 0.01 * number)
    assert not [warning for warning in recwarn if "optuna" in warning.filename]
    history, told = searcher.history, searcher.study.trials
    assert {status: len(history.by_status(status)) for status in ("out_of_memory", "diverged", "failed")} == {
        "out_of_memory": 6,
        "diverged": 6,
        "failed": 3,
    }
    complete = [trial for trial in told if trial.state is TrialState.COMPLETE]
    assert all("memory" in trial.constraints for trial in complete), "each says whether it was feasible"
    assert all(value == value for trial in complete for value in trial.values), "never NaN"
    best = {tuple(trial.values) for trial in searcher.study.best_trials}
    assert best == {(r.values["memory"], r.values["accuracy"]) for r in history.front()}


def test_a_diverged_trial_is_infeasible_at_its_memory_and_tells_no_number() -> None:
    searcher = _searcher(num_samples=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {**DIVERGED, "below_share": None})
    record, told = searcher.history.trials["a"], _told(searcher, 0)
    assert (record.status, record.message) == ("diverged", "diverged (validation): the loss became nan")
    assert told.constraints == {"memory": 0, "finite": 1}
    assert told.values == [record.values["memory"], 0.0]


def test_a_repeat_is_told_how_the_first_one_ended() -> None:
    def sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
        trial.suggest_float("unused", 0, 1)
        return {"method": "linear", "learning_rate": 0.1}

    searcher = _searcher(Space("one", "", sample, lambda _: []), "random")
    searcher.suggest("a")
    searcher.on_trial_complete("a", {**OUT_OF_MEMORY, "below_share": False})
    assert searcher.suggest("b") == "FINISHED"
    assert searcher.exhausted
    assert all(trial.constraints["memory"] > 0 for trial in searcher.study.trials)


def test_a_full_cluster_is_not_asked_for_more() -> None:
    searcher = _searcher(node=GPU)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", {**OUT_OF_MEMORY, "below_share": True})
    assert searcher.suggest("a again")["alone"]
    assert searcher.suggest("c") is None, "or small ones would keep it waiting"
    _finish(searcher, "a again", 0.5)
    assert searcher.suggest("c")["config"]


def test_what_no_device_holds_is_infeasible_too() -> None:
    searcher = _searcher(node=Node(cpus=8, memory=1536 * MIB))
    for number in range(15):
        assert searcher.suggest(f"t{number}")["needed"] <= 1536 * MIB
        _finish(searcher, f"t{number}", 0.5)
    feasible = max(record.memory.total for record in searcher.history.trials.values())
    assert searcher.history.infeasible
    assert all(c.memory.total > feasible for c in searcher.history.infeasible.values())


def test_samples_are_counted_and_what_is_left_over_is_stopped() -> None:
    searcher = _searcher(num_samples=3)
    for name in ("done", "crowded", "running"):
        searcher.suggest(name)
    _finish(searcher, "done", 0.5)
    searcher.on_trial_complete("crowded", {**OUT_OF_MEMORY, "below_share": True})
    assert searcher.close()
    statuses = {name: record.status for name, record in searcher.history.trials.items()}
    assert statuses == {"done": "finished", "crowded": "stopped", "running": "stopped"}


def test_when_tune_breaks_off_the_killed_end_and_the_others_go_on() -> None:
    searcher = _searcher(num_samples=2)
    configs = {name: searcher.suggest(name)["config"] for name in ("killed", "other")}
    killed, other = (searcher.history.trials[name] for name in configs)
    killed.worker, other.worker = "153a755f", "5e7894a1"
    searcher.on_trial_result("other", {"epoch": 1, "accuracy": 0.4, "loss": 1.0})
    other.checkpoint = "where it was"
    words = "1 worker(s) were killed …\nSelected to kill: (Actor(153a755f): …, pid=1)"
    assert searcher.break_off(words) == [killed]
    assert (killed.status, killed.message[:13]) == ("retried", "out of memory")
    goes_on = searcher.suggest("new")
    assert (goes_on["config"], goes_on["checkpoint"]) == (configs["other"], "where it was")
    assert searcher.suggest("again")["alone"]
    assert list(searcher.history.trials) == ["killed", "new", "again"]
    searcher.on_trial_complete("new", {"epoch": 2, "accuracy": 0.5, "loss": 1.0})
    assert searcher.history.trials["new"] is other
    assert [epoch["accuracy"] for epoch in other.epochs] == [0.4, 0.5]
    assert (other.status, searcher.study.trials[1].values[1]) == ("finished", 0.5)
    _finish(searcher, "again", 0.6)
    assert searcher.suggest("more") == "FINISHED"


def test_trials_killed_together_were_in_each_others_way() -> None:
    searcher = _searcher(num_samples=2)
    for name in ("a", "b"):
        searcher.suggest(name)
        searcher.history.trials[name].worker = f"worker of {name}"
    searcher.break_off("2 worker(s) were killed: worker of a, worker of b")
    assert [record.status for record in searcher.history.trials.values()] == ["retried", "retried"]


def test_nothing_is_left_over_at_the_end_of_a_search() -> None:
    searcher = _searcher(num_samples=1)
    searcher.suggest("a")
    _finish(searcher, "a", 0.5)
    assert searcher.suggest("b") == "FINISHED"
    assert not searcher.close()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides(sampler) -> None:
    def run(seed: int) -> list[dict[str, Any]]:
        searcher = _searcher(sampler=sampler, seed=seed)
        configs = []
        for number in range(8):
            configs.append(searcher.suggest(f"t{number}")["config"])
            _finish(searcher, f"t{number}", 0.1 * number)
        return configs

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_front_and_hypervolume() -> None:
    searcher = _searcher()
    accuracies = [0.5, 0.9, 0.2]
    for number, accuracy in enumerate(accuracies):
        searcher.suggest(f"t{number}")
        _finish(searcher, f"t{number}", accuracy)
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
    assert "t1" in front
    assert 0 < history.hypervolume() < 1
    assert history.best()["accuracy"] == 0.9
