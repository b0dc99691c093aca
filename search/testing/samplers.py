"""Checks that every sampler must pass, when a searcher asks, refuses, tells and restores it."""

from __future__ import annotations

import json
import math
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.engine.searcher import ParetoSearcher
from search.nodes import Node
from search.records.history import canonical
from search.records.status import Status
from search.samplers import state_of
from search.testing.searching import (
    CONTEXT,
    DIVERGED,
    end,
    finish,
    make_searcher,
    out_of_memory,
    report,
    result,
)
from search.units import GIB, MIB
from spaces import Space, SpaceContext, get_space
from spaces.grid import on_grid
from trainables.seeds import MAX_SEED
from trainables.testing import Check

GPUS = Node(cpus=8, gpus=4, gpu_memory=4 * GIB)
TUNE_IDS = map(str, count())


def _sample(trial: Any, context: SpaceContext) -> dict[str, Any]:
    """Sample a space with a choice, whole numbers, logarithmic ranges and a conditional parameter."""
    kind = trial.suggest_categorical("kind", ["plain", "gated"])
    config = {"method": kind, "n_fusion_layers": trial.suggest_int("n_fusion_layers", 1, 6)}
    if kind == "gated":
        config["translator_width"] = trial.suggest_int("translator_width", 16, 512, log=True)
    return {**config, "learning_rate": float(f"{trial.suggest_float('rate', 1e-4, 1e-2, log=True):.1e}")}


MIXED = Space("mixed", "", _sample, lambda _: [{"kind": "plain", "n_fusion_layers": 2, "rate": 1e-3}])


def _few(trial: Any, context: SpaceContext) -> dict[str, Any]:
    """Sample a space of seven configurations, of which one is alone in its branch."""
    layers = trial.suggest_int("n_fusion_layers", 1, 3)
    width = trial.suggest_int("translator_width", 1, 3) if layers > 1 else 0
    return {"method": "pmf", "n_fusion_layers": layers, "translator_width": width, "learning_rate": 1e-3}


FEW = Space("few", "", _few, lambda _: [{"n_fusion_layers": 2}])


def accuracy_of(config: dict[str, Any]) -> float:
    """Return a made-up accuracy: it grows with the layers, is best at a rate of 1e-3, and never repeats."""
    layers, width = config.get("n_fusion_layers", 1), config.get("translator_width", 0)
    off = abs(1 - config["learning_rate"] / 1e-3)
    noise = zlib.crc32(canonical(config).encode()) / 2**32
    return 0.4 + 0.05 * layers + 1e-4 * width - 0.01 * off + 0.01 * noise


def start(searcher: ParetoSearcher) -> tuple[str, dict[str, Any]]:
    """Ask for a trial; return Ray Tune's id and the configuration."""
    tune_id = next(TUNE_IDS)
    handed = searcher.suggest(tune_id)
    assert isinstance(handed, dict)
    return tune_id, dict(handed["assignment"].config)


def play(searcher: ParetoSearcher, trials: int) -> list[dict[str, Any]]:
    """Run trials one after the other; return their configurations."""
    configs = []
    for _ in range(trials):
        tune_id, config = start(searcher)
        configs.append(config)
        finish(searcher, tune_id, accuracy_of(config), loss=1 - accuracy_of(config))
    return configs


def told_as_best(searcher: ParetoSearcher) -> set[tuple[float, ...]]:
    """Return the values of Optuna's best trials."""
    return {tuple(trial.values) for trial in searcher.study.study.best_trials}


def on_the_front(searcher: ParetoSearcher) -> set[tuple[float, ...]]:
    """Return the values of the front, which holds only finished trials that satisfy the constraints."""
    names = [objective.name for objective in searcher.history.objectives]
    return {tuple(record.values[name] for name in names) for record in searcher.history.front()}


class Make(Protocol):
    """Starts or resumes a search with a sampler."""

    def __call__(self, space: Space = MIXED, **settings: Any) -> ParetoSearcher:
        """Return the searcher."""


def searching_with(sampler: str) -> Make:
    """Return a function that starts searches with a sampler."""

    def make(space: Space = MIXED, **settings: Any) -> ParetoSearcher:
        space = on_grid(space) if sampler == "grid" else space
        return make_searcher(space, sampler=sampler, **{"num_samples": 16, "epochs": 1, **settings})

    return make


def enough_for(sampler: str) -> int:
    """Return a number of trials beyond a sampler's start: 4 random trials, or a first generation of 4."""
    return {"gp": 5, "ehvi": 8}.get(sampler, 16)  # each of these takes up to a second


@contextmanager
def silent_optuna() -> Iterator[None]:
    """Check that Optuna warns about nothing inside the ``with`` statement, except deprecations."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("error", ExperimentalWarning)
        yield
    told = [warning for warning in said if "optuna" in warning.filename]
    assert not [warning for warning in told if not issubclass(warning.category, DeprecationWarning)]


def sampler_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a sampler.

    Args:
        name: Name of a registered sampler.
    """
    # NSGA breaks ties among parents by the order of the last objective, which differs between both searches.
    if "nsga" not in name:
        yield Check(check_to_maximise_is_to_minimise_the_negative, (name, ()))
        yield Check(check_to_maximise_is_to_minimise_the_negative, (name, ("params",)), slow=True)
    if name in _LEARNING:
        yield Check(check_what_learns_goes_where_both_directions_point, (name,))
    for function in _OF_ALL:
        yield Check(function, (name,))
    yield Check(check_trials_go_on_and_fail_while_others_are_asked_for, (name,), slow=True)
    for space in (MIXED, get_space("all_methods")):
        yield Check(check_restored_it_goes_on_as_it_would_have, (name, space), slow=True)


def check_to_maximise_is_to_minimise_the_negative(sampler: str, others: tuple[str, ...]) -> None:
    """Check that maximizing a metric gives the same trials as minimizing its negative."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    maximised = search(objectives=("memory", "accuracy", *others))
    configs = play(maximised, enough)
    assert play(search(objectives=("memory", "loss", *others)), enough) == configs
    assert told_as_best(maximised) == on_the_front(maximised)


def check_what_learns_goes_where_both_directions_point(sampler: str) -> None:
    """Check that late trials are better than early ones."""
    search = searching_with(sampler)
    searcher = search(objectives=("accuracy", "loss"), num_samples=60)
    scores = [accuracy_of(config) for config in play(searcher, 60)]
    assert sum(scores[-20:]) > 1.05 * sum(scores[:20])


@silent_optuna()
def check_first_points_come_first_and_conditional_parameters_are_those_of_the_choice(sampler: str) -> None:
    """Check that first points come first, and that a trial has only the parameters of its choice."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    space = get_space("all_methods")
    points = space.first_points(CONTEXT)
    searcher = search(space, num_samples=100)
    configs = play(searcher, len(points) + enough)
    if sampler != "grid":  # the grid replaces them by its nearest points
        assert configs[: len(points)] == [space.at(point, CONTEXT).config for point in points]
    if sampler != "gp":  # its five trials may all be of the method that looks best
        assert len({config["method"] for config in configs[len(points) :]}) > 1
    for trial in searcher.study.study.trials:
        method = trial.params["method"]
        assert {name.split(".")[0] for name in trial.params} <= {"method", method}


def check_what_is_known_is_kept_to_and_what_is_measured_counts_on_the_front(sampler: str) -> None:
    """Check that no trial above a budget starts, and that a trial that breaks a constraint is not best."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    searcher = search(max_memory=600 * MIB, constraints=("params<=1300", "accuracy>=52%"))
    configs = play(searcher, enough)
    assert all(config["n_fusion_layers"] <= 4 for config in configs)
    assert all(config.get("translator_width", 0) <= 300 for config in configs)
    history, trials = searcher.history, searcher.study.study.trials
    assert history.infeasible
    assert all(
        candidate.memory.total > 600 * MIB or candidate.memory.trainable_parameters > 1300
        for candidate in history.infeasible.values()
    )
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    infeasible = [trial for trial in trials if max(trial.constraints.values()) > 0]
    assert len(infeasible) > len(history.infeasible), "some that were trained are not accurate enough"
    assert min(accuracy_of(config) for config in configs) < 0.52
    assert told_as_best(searcher) == on_the_front(searcher)
    assert all(accuracy >= 0.52 for _, accuracy in told_as_best(searcher))


def check_no_configuration_comes_twice_though_many_are_open(sampler: str) -> None:
    """Check that configurations of open trials are not handed out again."""
    search = searching_with(sampler)
    searcher = search(FEW)
    open_ones = [start(searcher) for _ in range(4)]
    configs = [config for _, config in open_ones]
    for tune_id, config in open_ones:
        finish(searcher, tune_id, accuracy_of(config))
    configs += [start(searcher)[1] for _ in range(3)]
    assert len(set(map(canonical, configs))) == 7
    assert searcher.suggest("none is left, but some are still running") is None


def check_a_small_space_is_seen_whole_and_then_ends(sampler: str) -> None:
    """Check that each configuration of a small space is tried once, and that the search then ends."""
    search = searching_with(sampler)
    searcher = search(FEW)
    configs = play(searcher, 7)
    sides = {(config["n_fusion_layers"], config["translator_width"]) for config in configs}
    assert sides == {(1, 0), *((layers, width) for layers in (2, 3) for width in (1, 2, 3))}
    assert not searcher.candidates.exhausted
    assert searcher.suggest("more") == Searcher.FINISHED
    assert searcher.candidates.exhausted
    values = {canonical(record.config): record.values for record in searcher.history.trials.values()}
    for trial in searcher.study.study.trials:  # repeats are answered from the history
        config = searcher.setup.space.at(trial.params, CONTEXT).config
        assert trial.values == [values[canonical(config)][name] for name in ("memory", "accuracy")]


def check_a_space_of_which_nothing_is_feasible_ends(sampler: str) -> None:
    """Check that a search ends if no configuration is feasible."""
    search = searching_with(sampler)
    searcher = search(FEW, max_memory=250 * MIB)
    assert searcher.suggest("any") == Searcher.FINISHED
    assert searcher.candidates.exhausted
    assert len(searcher.history.infeasible) == 7
    assert searcher.history.trials == {}
    assert told_as_best(searcher) == set()


@silent_optuna()
def check_every_kind_of_end_is_lived_with(sampler: str) -> None:
    """Check that trials may end in every way, and that each is told correctly."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    searcher = search(max_memory=700 * MIB, num_samples=100, epochs=2)
    ends = ("finished", "out_of_memory", "stopped", "diverged", "failed", "finished")
    for place in range(2 * enough):
        tune_id, config = start(searcher)
        match ends[place % len(ends)]:
            case "finished":
                finish(searcher, tune_id, accuracy_of(config))
            case "out_of_memory":
                end(searcher, tune_id, out_of_memory(below_share=False))
            case "stopped":  # its accuracy would be the best of all
                searcher.recorder.report(tune_id, result(1, 0.99))
                searcher.on_trial_complete(tune_id)
            case "diverged":  # a metric is not a number
                searcher.recorder.report(tune_id, result(1, accuracy_of(config)))
                end(searcher, tune_id, DIVERGED)
            case "failed":
                searcher.on_trial_complete(tune_id, error=True)
    statuses = [record.status for record in searcher.history.trials.values()]
    assert statuses == [ends[place % len(ends)] for place in range(2 * enough)]
    trials = searcher.study.study.trials
    assert sum(trial.state is TrialState.FAIL for trial in trials) >= statuses.count(Status.FAILED)
    told = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert all(set(trial.constraints) == set(told[0].constraints) for trial in told)
    assert all(value == value for trial in told for value in trial.values), "never NaN"
    feasible = {tuple(trial.values) for trial in told if max(trial.constraints.values()) <= 0}
    assert len(feasible) == statuses.count(Status.FINISHED), "but for repeats"
    assert told_as_best(searcher) == on_the_front(searcher)


def check_a_search_of_failures_goes_on(sampler: str) -> None:
    """Check that a search continues after its first trials have all failed."""
    search = searching_with(sampler)
    searcher = search()
    for _ in range(8):
        searcher.on_trial_complete(start(searcher)[0], error=True)
    assert len({canonical(record.config) for record in searcher.history.by_status(Status.FAILED)}) == 8


def check_a_paused_trial_stands_beside_no_finished_one_and_is_told_anew(sampler: str) -> None:
    """Check that paused trials are never best, and are told again after they resume."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    searcher = search(num_samples=enough, epochs=3, scheduler="asha", reduction_factor=2)
    promoted = 0
    while (handed := searcher.suggest(tune_id := next(TUNE_IDS))) != Searcher.FINISHED:
        assert isinstance(handed, dict)
        record = searcher.history.leg(tune_id)
        assert record.number is not None
        asked = searcher.study.frozen(record.number)
        assert asked.state is TrialState.RUNNING
        promoted += record.legs > 1
        while record.status == Status.RUNNING:
            # Each trial is slightly worse than the one before, and early epochs are better than late ones.
            report(searcher, tune_id, 0.9 - 0.01 * record.number - 0.1 * len(record.epochs))
        record.checkpoint = f"{record.trial_id}/{len(record.epochs)}"
        told = searcher.study.frozen(record.number)
        assert told.values == [record.values["memory"], record.values["accuracy"]]
        assert math.isclose(told.constraints["unfinished"], 1 - len(record.epochs) / 3, abs_tol=1e-9)
        assert told_as_best(searcher) == on_the_front(searcher)
    assert promoted
    statuses = [record.status for record in searcher.history.trials.values()]
    assert len(statuses) == enough
    assert set(statuses) == {"finished", "paused"}


def check_trials_go_on_and_fail_while_others_are_asked_for(sampler: str) -> None:
    """Check that promotions and failures may come in any order."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    samples = max(12, 2 * enough)
    searcher = search(num_samples=samples, epochs=4, scheduler="asha", reduction_factor=2, min_epochs=1)
    running: list[str] = []
    reopened = failed = 0
    while True:
        while len(running) < 4 and isinstance(searcher.suggest(tune_id := next(TUNE_IDS)), dict):
            running.append(tune_id)
        if not running:
            break
        tune_id = running.pop(0)
        record = searcher.history.leg(tune_id)
        if record.legs > 1:
            reopened += 1
            if reopened % 3 == 0:
                searcher.on_trial_complete(tune_id, error=True)
                failed += 1
                continue
        report(searcher, tune_id, zlib.crc32(record.trial_id.encode()) / 2**32)
        record.checkpoint = f"{record.trial_id}/{len(record.epochs)}"
        if record.status == Status.RUNNING:
            running.append(tune_id)
    assert reopened
    assert failed == len(searcher.history.by_status(Status.FAILED))
    assert searcher.samples == samples
    assert told_as_best(searcher) == on_the_front(searcher)


def restored(searcher: ParetoSearcher, make: Callable[..., ParetoSearcher]) -> ParetoSearcher:
    """Return a second searcher, from the files that would be left if the first one were killed now."""
    folder = searcher.store.path.parent
    copy = folder / "copy"
    copy.mkdir()
    for file in folder.glob(f"{searcher.store.path.name}*"):
        shutil.copy(file, copy)
    return make(folder=copy)


def check_restored_it_goes_on_as_it_would_have(sampler: str, space: Space) -> None:
    """Check that a search that was killed resumes with the proposals that it would have made."""
    search = searching_with(sampler)
    enough = enough_for(sampler)

    def make(folder: Path | None = None) -> ParetoSearcher:
        halving = {"epochs": 3, "scheduler": "asha", "reduction_factor": 2, "min_epochs": 2}
        return search(space, folder=folder, node=GPUS, num_samples=30, **halving)

    def run(searcher: ParetoSearcher, tune_id: str) -> None:
        record = searcher.history.leg(tune_id)
        while record.status == Status.RUNNING:
            report(searcher, tune_id, accuracy_of(record.config))

    first = make()
    begun, crowded = start(first)[0], start(first)[0]
    report(first, begun, 0.1)
    first.on_trial_complete(start(first)[0], error=True)
    end(first, start(first)[0], DIVERGED)
    for _ in range(enough):
        run(first, start(first)[0])
    end(first, crowded, out_of_memory(below_share=True))
    still_open = [begun, start(first)[0]]
    statuses = {record.status for record in first.history.trials.values()}
    assert statuses == {"failed", "diverged", "paused", "finished", "running", "retried"}
    names = [first.history.leg(tune_id).trial_id for tune_id in still_open]

    second = restored(first, make)
    assert told_as_best(second) == told_as_best(first)
    again = [start(second)[0] for _ in names]
    assert [second.history.leg(tune_id).trial_id for tune_id in again] == names, "what was open comes first"
    handed_out = []
    for searcher, tune_ids in ((first, still_open), (second, again)):
        run(searcher, tune_ids[0])
        handed = []
        for _ in range(enough // 3):
            tune_id, config = start(searcher)
            handed.append((searcher.history.leg(tune_id).trial_id, config))
            run(searcher, tune_id)
        run(searcher, tune_ids[1])
        handed_out.append((handed, start(searcher)[1]))
    assert handed_out[0] == handed_out[1]
    assert told_as_best(first) == told_as_best(second) == on_the_front(second)


def check_its_state_is_json_from_which_a_new_one_goes_on(sampler: str) -> None:
    """Check that a new sampler with the state of another one, read from JSON, makes the same proposals.

    It is made for as many trials as the other one, although the search is resumed with more.
    """
    search = searching_with(sampler)
    enough = enough_for(sampler)
    first = search()
    play(first, enough)
    state = json.loads(json.dumps(state_of(first.study.sampler)))
    assert first.store.fact("sampler")["state"] == state
    second = restored(first, lambda folder: search(folder=folder, num_samples=100))
    assert state_of(second.study.sampler) == state
    first.config = second.config  # so that both have samples left
    assert play(second, enough // 2) == play(first, enough // 2)


def check_a_seed_decides(sampler: str) -> None:
    """Check that the same seed gives the same trials, and another seed, however large, gives others."""
    search = searching_with(sampler)
    enough = enough_for(sampler)
    configs = play(search(seed=1), enough)
    assert play(search(seed=1), enough) == configs
    assert play(search(seed=2), 4) != configs[:4]
    assert play(search(seed=MAX_SEED), 4) != configs[:4]


#: Samplers that learn within sixty trials.
_LEARNING = ("tpe", "nsga2", "nsga3", "evolution")
#: Checks that run for every sampler.
_OF_ALL = (
    check_first_points_come_first_and_conditional_parameters_are_those_of_the_choice,
    check_what_is_known_is_kept_to_and_what_is_measured_counts_on_the_front,
    check_no_configuration_comes_twice_though_many_are_open,
    check_a_small_space_is_seen_whole_and_then_ends,
    check_a_space_of_which_nothing_is_feasible_ends,
    check_every_kind_of_end_is_lived_with,
    check_a_search_of_failures_goes_on,
    check_a_paused_trial_stands_beside_no_finished_one_and_is_told_anew,
    check_its_state_is_json_from_which_a_new_one_goes_on,
    check_a_seed_decides,
)
