"""Samplers of our own: what each of them promises beyond what all samplers must hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial
from threadpoolctl import threadpool_info

from search.engine.searcher import ParetoSearcher
from search.nodes import Node
from search.samplers import SAMPLERS, make_sampler, restore_state, state_of
from search.samplers.ehvi import HypervolumeSampler, Outlook, expected_growth
from search.samplers.evolution import EvolutionSampler
from search.testing.searching import finish, make_searcher, report
from spaces import Space, SpaceContext
from spaces.grid import enumerate_space, on_grid
from tests.search.made_up import LABELS, ROWS, outputs_of
from trainables.errors import UserError

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})


def _study(sampler: BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


def test_names_and_an_unknown_one() -> None:
    assert list(SAMPLERS) == ["ehvi", "evolution", "gp", "grid", "nsga2", "nsga3", "random", "qmc", "tpe"]
    assert all(isinstance(make_sampler(name, 1, 0), BaseSampler) for name in SAMPLERS)
    with pytest.raises(UserError, match="unknown sampler 'cmaes'; known: ehvi, evolution, gp"):
        make_sampler("cmaes", 10, 0)


# grid


def _conditional(trial: Any, context: SpaceContext) -> dict[str, Any]:
    kind = trial.suggest_categorical("kind", ["plain", "gated", "deep"])
    config = {"kind": kind, "layers": trial.suggest_int("layers", 1, 12 if kind == "deep" else 2)}
    if kind == "gated":
        config["gate"] = trial.suggest_float("gate", 1e-3, 1e-1, log=True)
    return config


CONDITIONAL = on_grid(Space("conditional", "", _conditional, lambda _: []))


def _asked(study: optuna.Study, trials: int) -> list[tuple[Any, ...]]:
    """Ask for configurations; let one run, one fail, and finish the others."""
    asked = []
    for number in range(trials):
        trial = study.ask()
        asked.append(tuple(CONDITIONAL.sample(trial, CONTEXT).values()))
        if number % 5 == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 5:
            study.tell(trial, [1.0, 0.5])
    return asked


def test_a_grid_is_walked_once_in_an_order_of_the_seed_and_then_at_random() -> None:
    members = {tuple(member.config.values()) for member in enumerate_space(CONDITIONAL, CONTEXT)}
    assert len(members) == 2 + 2 * 5 + 5
    study = _study(make_sampler("grid", 17, seed=0))
    asked = _asked(study, 17)
    assert set(asked) == members
    assert set(_asked(study, 5)) <= members
    assert _asked(_study(make_sampler("grid", 17, seed=1)), 17) != asked


def test_a_grid_search_that_ends_early_has_seen_as_much_of_each_branch() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(30):
        kinds.update(kind for kind, *_ in _asked(_study(make_sampler("grid", 17, seed)), 3))
    assert min(kinds.values()) > 20


def test_a_point_beside_the_grid_counts_for_the_nearest_one() -> None:
    study = _study(make_sampler("grid", 17, seed=0))
    study.enqueue_trial({"kind": "deep", "layers": 11})  # the grid has 9 and 12
    asked = _asked(study, 17)
    assert asked[0] == ("deep", 12)
    assert len(set(asked)) == 17


# qmc


def test_sobol_points_fill_every_part_of_a_space_alike() -> None:
    study = _study(make_sampler("qmc", 64, seed=3))
    asked = []
    for _ in range(64):
        trial = study.ask()
        kind = trial.suggest_categorical("kind", ["a", "b"])
        asked.append(
            (kind, trial.suggest_int(f"{kind}.layers", 1, 4), trial.suggest_float(f"{kind}.x", 0, 1))
        )
    assert Counter((kind, layers) for kind, layers, _ in asked) == {
        (k, n): 8 for k in "ab" for n in (1, 2, 3, 4)
    }
    assert Counter((kind, int(8 * x)) for kind, _, x in asked) == {(k, n): 4 for k in "ab" for n in range(8)}


def test_sobol_points_reach_all_of_a_log_range() -> None:
    study = _study(make_sampler("qmc", 64, seed=0))
    trials = [study.ask() for _ in range(64)]
    assert {trial.suggest_int("n", 1, 6, log=True) for trial in trials} == set(range(1, 7))
    rates = [trial.suggest_float("rate", 1e-4, 1e-2, log=True) for trial in trials]
    assert min(rates) < 1.2e-4
    assert max(rates) > 8e-3
    assert 30 <= sum(rate < 1e-3 for rate in rates) <= 34
    assert {trial.suggest_float("half", 0, 1, step=0.5) for trial in trials} == {0, 0.5, 1}


# gp


def test_no_model_is_fitted_for_what_is_given_or_after_a_repeat() -> None:
    study = _study(make_sampler("gp", 16, seed=0))
    study.enqueue_trial({"x": 3, "rate": 0.1})

    def modelled(*, values: list[float]) -> set[str]:
        trial = study.ask()
        found = set(trial.relative_params)
        trial.suggest_int("x", 1, 9)
        trial.suggest_float("rate", 0, 1)
        study.tell(trial, values)
        return found

    assert modelled(values=[0.0, 0.0]) == set()
    for number in range(1, 5):
        modelled(values=[number, number])
    study.enqueue_trial({"x": 3, "rate": 0.11})
    assert modelled(values=[0.0, 0.0]) == set(), "it was given"
    assert modelled(values=[9.0, 1.0]) == set(), "the one before repeated the first"
    assert modelled(values=[9.0, 2.0]) == {"x", "rate"}


# evolution

GENES = {
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "width": IntDistribution(48, 384, step=48),
    "prompts": IntDistribution(1, 32, log=True),
    "rate": FloatDistribution(1e-4, 1e-2, log=True),
    "fixed": IntDistribution(1, 1),
}
LOW = {"kind": "a", "width": 48, "prompts": 1, "rate": 1e-4, "fixed": 1}
HIGH = {"kind": "b", "width": 384, "prompts": 32, "rate": 1e-2, "fixed": 1}


def _tried(params: dict[str, Any], memory: float, accuracy: float, violation: float = -1.0) -> Any:
    return create_trial(
        values=[memory, accuracy],
        params=params,
        distributions={name: GENES[name] for name in params},
        constraints={"memory": violation},
    )


def _children(*tried: Any, number: int = 100) -> list[dict[str, Any]]:
    """Children of some trials, all of them running."""
    study = _study(EvolutionSampler(startup=0, seed=0))
    study.add_trials(tried)
    return [study.ask(GENES).params for _ in range(number)]


def _genes_of(child: dict[str, Any], *parents: dict[str, Any]) -> int:
    return sum(any(child[name] == parent[name] for parent in parents) for name in GENES)


def test_half_of_the_children_cross_two_parents_and_half_change_one() -> None:
    children = _children(_tried(LOW, 1, 0.1), _tried(HIGH, 2, 0.9))
    crossed = [child for child in children if _genes_of(child, LOW, HIGH) == len(GENES)]
    assert 40 <= len(crossed) <= 70, "some changed genes are the other parent's by chance"
    assert any(0 < _genes_of(child, LOW) - 1 < len(GENES) - 1 for child in crossed)
    for child in children:
        assert all(LOW[name] <= child[name] <= HIGH[name] for name in GENES if name != "kind")
        assert child["width"] % 48 == 0


def test_every_child_of_one_parent_differs_but_not_in_everything() -> None:
    children = _children(_tried(LOW, 1, 0.1))
    assert LOW not in children
    kept = [_genes_of(child, LOW) for child in children]
    assert sum(kept) / len(kept) > 3, "of 5, one of which cannot change"
    near = sum(48 < child["width"] <= 96 for child in children)
    far = sum(child["width"] > 96 for child in children)
    assert near > 10 < far, "to a neighbour, or drawn anew"


def test_parents_are_on_the_front_where_there_are_enough() -> None:
    front = [{**LOW, "rate": 1e-4 * (1 + step), "prompts": 1} for step in range(8)]
    behind = {**HIGH, "kind": "c", "prompts": 32}
    tried = [_tried(params, step, 0.1 * step) for step, params in enumerate(front)]
    many = _children(*tried, _tried(behind, 9, 0.0), number=60)
    few = _children(*tried[:5], _tried(behind, 9, 0.0), number=60)
    assert sum(_genes_of(child, behind) >= 4 for child in many) == 0
    assert sum(_genes_of(child, behind) >= 4 for child in few) > 3


def test_what_violates_a_constraint_is_a_parent_only_for_want_of_others() -> None:
    feasible = [_tried({**LOW, "rate": 1e-4 * (1 + step)}, 1, 0.1) for step in range(8)]
    broken = [_tried(HIGH, 0.1, 0.9, violation=0.5), _tried({**HIGH, "kind": "c"}, 0.0, 1.0, violation=2.0)]
    children = _children(*feasible, *broken, number=60)
    assert sum(_genes_of(child, HIGH) >= 4 for child in children) == 0
    assert sum(_genes_of(child, HIGH) >= 4 for child in _children(*broken, number=60)) > 10


def test_genes_that_no_parent_has_are_drawn() -> None:
    parent = {"kind": "a", "width": 48}
    children = _children(_tried(parent, 1, 0.1))
    assert len({child["prompts"] for child in children}) > 10
    assert sum(child["kind"] == "a" for child in children) > 30


def test_the_first_trials_are_random() -> None:
    sampler = make_sampler("evolution", 80, seed=0)
    study = _study(sampler)
    reference = _study(optuna.samplers.RandomSampler(seed=0))
    same = []
    for number in range(30):
        trial, other = study.ask(), reference.ask()
        drawn = trial.suggest_float("x", 0, 1)
        same.append(drawn == other.suggest_float("x", 0, 1))
        study.tell(trial, [drawn, number / 30])
    assert all(same[:20])
    assert not all(same[20:])


def test_the_growth_of_an_exact_point_is_what_it_dominates() -> None:
    places = np.stack(np.meshgrid(*[(np.arange(100) + 0.5) / 100] * 2), axis=-1).reshape(-1, 2)
    point = np.array([[0.25, 0.6]])
    assert expected_growth(point, np.zeros((1, 2)), places) / len(places) == pytest.approx(0.75 * 0.4)
    dominated = (places >= [0.5, 0.5]).all(1)
    grown = expected_growth(point, np.zeros((1, 2)), places[~dominated]) / len(places)
    assert grown == pytest.approx(0.75 * 0.4 - 0.5 * 0.4)


def test_the_growth_of_an_uncertain_point_is_the_mean_of_what_it_may_dominate() -> None:
    places = ((np.arange(4000) + 0.5) / 4000)[:, None]
    drawn = np.random.default_rng(0).normal(0.7, 0.1, 200_000)
    mean = np.clip(1 - drawn, 0, 1).mean()
    grown = expected_growth(np.array([[0.7]]), np.array([[0.1]]), places) / len(places)
    assert grown == pytest.approx(mean, abs=1e-3)


def _layers_against_width(trial: Any, context: SpaceContext) -> dict[str, Any]:
    config = {"method": "pmf", "n_fusion_layers": trial.suggest_int("n_fusion_layers", 1, 12)}
    config["translator_width"] = trial.suggest_int("translator_width", 16, 512, log=True)
    config["learning_rate"] = float(f"{trial.suggest_float('rate', 1e-4, 1e-2, log=True):.2e}")
    return config


def _accuracy(config: dict[str, Any]) -> float:
    """Best at a rate of 1e-3, whatever the memory: two layers are as good as twelve."""
    return 0.9 - 0.3 * abs(np.log10(config["learning_rate"] / 1e-3)) - 0.3 * (config["n_fusion_layers"] == 1)


def _hand_out(searcher: ParetoSearcher, tune_id: str) -> dict[str, Any]:
    handed = searcher.suggest(tune_id)
    assert isinstance(handed, dict)
    return dict(handed["assignment"].config)


def test_ehvi_finds_what_is_good_and_knows_what_is_cheap() -> None:
    space = Space("layers", "", _layers_against_width, lambda _: [])
    searcher = make_searcher(space, sampler="ehvi", epochs=1, num_samples=24)
    configs = []
    for number in range(24):
        configs.append(_hand_out(searcher, f"t{number}"))
        finish(searcher, f"t{number}", _accuracy(configs[-1]))
    late = configs[12:]
    assert np.mean([config["n_fusion_layers"] <= 3 for config in late]) > 0.8  # as a rule, 1 in 4
    assert np.mean([abs(np.log10(config["learning_rate"] / 1e-3)) < 0.35 for config in late]) > 0.6
    assert any(config["n_fusion_layers"] == 2 for config in late)
    predicted = sum(searcher.setup.predictor.asked.values())  # type: ignore[attr-defined]
    assert predicted <= 24 * (HypervolumeSampler.LOOKED_AT + 1)


def test_ehvi_learns_from_trials_that_still_run() -> None:
    space = Space("layers", "", _layers_against_width, lambda _: [])
    searcher = make_searcher(space, node=Node(cpus=64), sampler="ehvi", epochs=9, num_samples=40)
    configs = []
    for number in range(30):
        configs.append(_hand_out(searcher, f"t{number}"))
        report(searcher, f"t{number}", _accuracy(configs[-1]))
    assert {record.status for record in searcher.history.trials.values()} == {"running"}
    late = configs[15:]
    assert np.mean([abs(np.log10(config["learning_rate"] / 1e-3)) < 0.35 for config in late]) > 0.6


def _two_hills(noise: float | None) -> tuple[Outlook, list[Any]]:
    """Return 20 results of one parameter: a hill at 0.2, and a higher one at 0.8 with the given noise."""
    places = [(number + 0.5) / 20 for number in range(20)]
    asked = [
        create_trial(values=[x, x], params={"x": x}, distributions={"x": FloatDistribution(0, 1)})
        for x in places
    ]
    for number, trial in enumerate(asked):
        trial.number = number
    losses = [0.5 - 0.2 * (abs(x - 0.2) < 0.1) - 0.3 * (abs(x - 0.8) < 0.1) for x in places]
    noises = [None if noise is None else (0.0, noise if x > 0.65 else 0.01) for x in places]
    outlook = Outlook(
        names=["memory", "accuracy"],
        exact=[True, False],
        epochs=1,
        losses=lambda values: (values["memory"], 1 - values["accuracy"]),
        draw=lambda trial: {"x": trial.suggest_float("x", 0, 1)},
        known=lambda config: {"memory": 0.5},
        runs=lambda number: [[(0.5, losses[number])]],
        noises=lambda: noises.__getitem__,
    )
    return outlook, asked


def _proposed(outlook: Outlook, asked: list[Any]) -> list[float]:
    """Return what is proposed next, with several seeds."""
    found = []
    for seed in range(5):
        sampler = HypervolumeSampler(4, seed)
        sampler.attach(outlook)
        study = _study(sampler)
        study.add_trials(asked)
        found.append(study.ask({"x": FloatDistribution(0, 1)}).params["x"])
    return found


def test_ehvi_does_not_believe_what_it_is_told_to_be_luck() -> None:
    assert all(0.65 < x < 0.95 for x in _proposed(*_two_hills(0.01))), "the best results so far"
    assert all(0.05 < x < 0.35 for x in _proposed(*_two_hills(0.5))), "the best that can be relied on"


def test_ehvi_that_knows_no_noise_is_as_if_there_was_none_to_know() -> None:
    outlook, asked = _two_hills(None)
    told = [getattr(outlook, field.name) for field in fields(Outlook) if field.name != "noises"]
    assert _proposed(outlook, asked) == _proposed(Outlook(*told), asked)


def test_ehvi_sees_several_seeds_as_one_result_of_their_mean() -> None:
    outlook, asked = _two_hills(0.01)
    seeds = [[[(0.5, loss + luck)] for luck in (-0.1, 0.1)] for [[(_, loss)]] in map(outlook.runs, range(20))]
    assert _proposed(replace(outlook, runs=seeds.__getitem__), asked) == pytest.approx(
        _proposed(outlook, asked)
    )


def test_ehvi_hears_of_the_luck_that_the_kept_outputs_tell() -> None:
    """The results are the same; the sampler is told how much of them is luck, or is not."""

    def proposals(*, kept: bool) -> list[dict[str, Any]]:
        space = Space("layers", "", _layers_against_width, lambda _: [])
        searcher = make_searcher(space, sampler="ehvi", epochs=1, num_samples=10, labels=LABELS)
        configs = []
        for number in range(10):
            configs.append(_hand_out(searcher, f"t{number}"))
            accuracy = round(_accuracy(configs[-1]) * ROWS) / ROWS
            outputs = {"validation": outputs_of(accuracy, number % 2 * 200)}
            finish(searcher, f"t{number}", accuracy, outputs if kept else None)
        return configs

    silent, told = proposals(kept=False), proposals(kept=True)
    assert silent[:4] == told[:4], "the first ones are random"
    assert silent != told


def test_ehvi_computes_with_one_thread() -> None:
    outlook, asked = _two_hills(None)
    threads: set[int] = set()

    def known(config: dict[str, Any]) -> dict[str, float]:
        threads.update(used["num_threads"] for used in threadpool_info() if used["user_api"] == "blas")
        return {"memory": 0.5}

    _proposed(replace(outlook, known=known), asked)
    assert threads == {1}


def test_ehvi_learns_kernels_again_when_results_have_become_a_tenth_more(monkeypatch) -> None:
    monkeypatch.setattr("search.samplers.ehvi._Model.LEARNT_FROM", 10)
    outlook, asked = _two_hills(None)
    sampler, restored = HypervolumeSampler(4, 0), HypervolumeSampler(4, 0)
    for one in (sampler, restored):
        one.attach(outlook)

    def propose(sampler: HypervolumeSampler, results: int) -> float:
        study = _study(sampler)
        study.add_trials(asked[:results])
        return float(study.ask({"x": FloatDistribution(0, 1)}).params["x"])

    propose(sampler, 18)
    learnt = sampler.own_state()
    assert [(index, results) for index, results, _ in learnt] == [(0, 18), (1, 18)]
    restore_state(restored, json.loads(json.dumps(state_of(sampler))))
    assert propose(sampler, 19) == propose(restored, 19)
    assert sampler.own_state() == restored.own_state() == learnt
    propose(sampler, 20)
    assert [(index, results) for index, results, _ in sampler.own_state()] == [(0, 20), (1, 20)]
