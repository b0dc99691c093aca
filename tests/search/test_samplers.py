"""Samplers of our own: what each of them promises beyond what all samplers must hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from search.samplers import SAMPLERS, make_sampler
from search.samplers.evolution import EvolutionSampler
from spaces import Space, SpaceContext
from spaces.grid import enumerate_space, on_grid
from trainables.errors import UserError

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})


def _study(sampler: BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


def test_names_and_an_unknown_one() -> None:
    assert list(SAMPLERS) == ["tpe", "nsga2", "nsga3", "gp", "qmc", "random", "grid", "evolution"]
    assert all(isinstance(make_sampler(name, 1, 0), BaseSampler) for name in SAMPLERS)
    with pytest.raises(UserError, match="unknown sampler 'cmaes'; known: evolution, gp"):
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
