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
from search.study import ParetoSearcher, make_sampler
from spaces import Space, SpaceContext, get_space
from trainables.memory import MemoryReport

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
MIB = 2**20


class CountingPredictor:
    """Memory grows with the fused layers; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def predict(self, method: str, config: dict[str, Any]) -> MemoryReport:
        self.asked[canonical(config)] += 1
        total = (200 + 100 * config.get("n_fusion_layers", 1)) * MIB
        return MemoryReport(total, total, 0, 0, 0, 0, trainable_parameters=1000, checkpoint=4000)


def _searcher(
    space: str | Space = "pmf_nas",
    sampler: str = "tpe",
    max_memory: int | None = None,
    seed: int = 0,
    epochs: int = 2,
) -> ParetoSearcher:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    history = History(get_objectives(["memory", "accuracy"]), {"memory": 1.0, "accuracy": 0.0})
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=make_sampler(sampler, 20, seed))
    space = get_space(space) if isinstance(space, str) else space
    return ParetoSearcher(study, space, CONTEXT, CountingPredictor(), history, epochs, max_memory)  # type: ignore[arg-type]


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
