"""Comparison of search engines on recorded trials: the hypervolume they reach for the epochs they spend.

Nothing is trained. Workers are simulated on a clock, on which each epoch takes its recorded time. The engines
are the real objects, called in the order in which Ray Tune (or Syne Tune) calls them. Every engine may
propose any configuration of the space, gets no first points and pays for every epoch it runs. Engines are
compared by the hypervolume of the trials that ran all epochs, from the search's own reference, as a share of
the hypervolume of all trials in the table. With ``--above-guess`` it is measured from the accuracy of a
method that has learnt nothing.

All engines choose among the recorded configurations. A proposal is replaced by the nearest configuration that
the run has not tried yet, and the engine is told the new values as if it had proposed them. (A search with
``--replay`` does not replace proposals. It answers each with the results of the nearest configuration, so
proposals that are close to each other get the same results.)

The engines of this project are named SAMPLER/SCHEDULER. They are compared with

- ``ray SEARCH+SCHEDULER``: ``OptunaSearch`` (all objectives, its own sampler) or random search, with Ray's
  FIFO or its ASHA on the first objective that training decides;
- ``syne MOASHA``: Syne Tune's multi-objective ASHA, which searches at random. Its rungs use the sorted order
  of the trials as if it were their ranks (0.16.0: ``Bracket.on_result`` compares the result of
  ``NonDominatedPriority``, which is the indices in sorted order). Therefore it is also run with ranks, as
  ``syne MOASHA, ranks``. It is included if Syne Tune is installed (``pip install syne-tune==0.16.0``).

Each engine has its own defaults. ``2 from 3`` means a reduction factor of 2 and a first rung after 3 epochs,
and ``defer`` means a search with ``--defer``.

    python benchmarks/engine.py --table benchmarks/tables/pmf_nas.parquet --seeds 20
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import heapq
import importlib.util
import itertools
import json
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from kept import kept_document
from rich.console import Console
from rich.progress import track

from search.backends.recorded import ReplayBackend
from search.config import SearchConfig
from search.engine.searcher import ParetoSearcher
from search.goals.objectives import (
    Objective,
    get_objectives,
    known_values,
    normalised,
    reference_values,
)
from search.goals.pareto import hypervolume
from search.nodes import Node
from search.placement import place
from search.records.store import SearchStore
from search.replay import Recorded, ReplayTable
from search.samplers import SAMPLERS
from search.schedulers import SCHEDULERS
from search.setup import look_up, set_up
from spaces import Space, SpaceContext, get_space
from spaces.trials import AnsweringTrial

TARGET = 0.95
#: Seeds of a sampler that takes a second and more to ask.
SEEDS = {"gp": 2}
#: Reduction factors and first rungs to run in addition to each engine's defaults. The defaults of this
#: project's engines are a factor of 2 and a first rung after a third of the epochs.
RUNGS = ((3, 1), (2, 2), (2, 3))
#: Engines in the picture, with colours that colour-blind people can tell apart (Okabe and Ito).
COLOURS = {
    "ray random+fifo": "#000000",
    "ray optuna+fifo": "#E69F00",
    "ray optuna+asha": "#CC79A7",
    "syne MOASHA": "#56B4E9",
    "random/pareto_asha": "#009E73",
    "ehvi/pareto_asha": "#D55E00",
    "tpe/none": "#0072B2",
}
#: Folder for the state of searches; a file system in memory if there is one.
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclasses.dataclass(frozen=True)
class Problem:
    """The problem that all engines solve.

    Attributes:
        table: The recorded trials.
        names: Names of the objectives.
        at_once: Number of concurrent trials.
        cap: Maximum number of epochs that a run may spend.
        above_guess: Whether only what is better than having learnt nothing counts. The engines search as
            without it.
    """

    table: ReplayTable
    names: tuple[str, ...]
    at_once: int
    cap: int
    above_guess: bool = False

    @property
    def samples(self) -> int:
        """The number of trials for which samplers plan."""
        return self.cap // self.table.epochs

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives."""
        return get_objectives(self.names)

    @property
    def trained(self) -> Objective:
        """The first objective that training decides."""
        return next(objective for objective in self.objectives if not objective.known)

    @cached_property
    def reference(self) -> dict[str, float]:
        """The reference values of a search in the table's space."""
        largest = [
            known_values(self.table.nearest(c).memory)
            for c in get_space(self.table.space).largest(self.table.context)
        ]
        bounds = {name: 1.1 * max(values[name] for values in largest) for name in largest[0]}
        return reference_values(self.objectives, bounds, self.table.guess)

    @cached_property
    def worst(self) -> tuple[float, ...]:
        """The losses from which the hypervolume is measured."""
        return self.point({**self.reference, **(self.table.guess if self.above_guess else {})})

    @property
    def full(self) -> float:
        """The hypervolume of all recorded trials."""
        last = (self.point(self.values(row, self.table.epochs)) for row in self.table.rows)
        return self.hypervolume(set(last))

    def values(self, row: Recorded, epoch: int) -> dict[str, float]:
        """Return the objective values that a trial reports after an epoch."""
        return {**row.epochs[epoch - 1], **known_values(row.memory)}

    def point(self, values: dict[str, float]) -> tuple[float, ...]:
        """Return values scaled to losses: 0 is the ideal value and 1 the reference."""
        return normalised(self.objectives, self.reference, values)

    def hypervolume(self, points: Collection[tuple[float, ...]]) -> float:
        """Return the hypervolume that points dominate."""
        return hypervolume(list(points), list(self.worst))


class Recordings:
    """The recorded trials during one run. A trial is used a second time only if all others are used."""

    def __init__(self, problem: Problem) -> None:
        self.table = problem.table
        self._space = get_space(problem.table.space)
        self._used: dict[str, set[int]] = defaultdict(set)

    @property
    def space(self) -> Space:
        """The table's space without first points. Each proposal is replaced by the nearest unused trial."""
        return dataclasses.replace(self._space, sample=self._sample, first_points=lambda _: [])

    def train(self, config: dict[str, Any]) -> Recorded:
        """Return the trial of a configuration, and mark it as used."""
        method = config["method"]
        index = int(self.table.neighbourhoods[method].distances(config).argmin())
        self._used[method].add(index)
        return self.table.neighbourhoods[method].rows[index]

    def _sample(self, trial: Any, context: SpaceContext) -> dict[str, Any]:
        proposed = self._space.sample(trial, context)
        neighbourhood, used = self.table.neighbourhoods[proposed["method"]], self._used[proposed["method"]]
        distances = neighbourhood.distances(proposed)
        if len(used) < len(neighbourhood.rows):
            distances[list(used)] = np.inf
        row = neighbourhood.rows[int(distances.argmin())]
        move(trial, row.params)
        return row.config


def move(trial: Any, params: dict[str, Any]) -> None:
    """Replace a trial's parameter values, as if its sampler had proposed the new ones."""
    if isinstance(trial, AnsweringTrial):
        trial.values.update({name: params[name] for name in trial.values if name in params})
        return
    for name in [name for name in trial.distributions if name in params]:
        distribution = trial.distributions[name]
        internal = distribution.to_internal_repr(params[name])
        trial.storage.set_trial_param(trial._trial_id, name, internal, distribution)


class Engine(ABC):
    """A search engine, which decides which trial gets the next epoch. A resumed trial has a new name."""

    @abstractmethod
    def ask(self, trial: str) -> tuple[dict[str, Any], int] | None:
        """Return the configuration to train next and its number of finished epochs, or None to wait."""

    @abstractmethod
    def tell(self, trial: str, values: dict[str, float], *, last: bool) -> bool:
        """Process a trial's report after an epoch; return whether the trial continues at once.

        Args:
            trial: Name of the trial.
            values: The reported values.
            last: Whether the trial has run all its epochs.
        """


def simulate(make: Callable[..., Engine], problem: Problem, seed: int) -> list[tuple[int, float]]:
    """Run an engine; return pairs of spent epochs and hypervolume, one for each increase."""
    recordings = Recordings(problem)
    engine = make(problem, recordings.space, seed)
    running: list[tuple[float, int, str, Recorded, int]] = []
    count, clock, spent = itertools.count(), 0.0, 0
    found: set[tuple[float, ...]] = set()
    curve = [(0, 0.0)]

    def train(name: str, row: Recorded, epoch: int) -> None:
        seconds = row.epochs[epoch - 1]["epoch_seconds"] + row.epochs[epoch - 1]["validation_seconds"]
        heapq.heappush(running, (clock + seconds, next(count), name, row, epoch))

    while spent < problem.cap:
        while len(running) < problem.at_once:
            name = f"leg{next(count):05d}"
            if (asked := engine.ask(name)) is None:
                break
            config, epochs = asked
            train(name, recordings.train(config), epochs + 1)
        if not running:
            break
        clock, _, name, row, epoch = heapq.heappop(running)
        spent += 1
        values = problem.values(row, epoch)
        last = epoch == problem.table.epochs
        if engine.tell(name, values, last=last):
            train(name, row, epoch + 1)
        if last and (point := problem.point(values)) not in found:
            found.add(point)
            curve.append((spent, problem.hypervolume(found)))
    return curve


class Ours(Engine):
    """``ParetoSearcher`` with a sampler and a scheduler, called as Ray Tune calls it."""

    def __init__(
        self, problem: Problem, space: Space, seed: int, sampler: str, scheduler: str, **rungs: Any
    ) -> None:
        config = SearchConfig(
            space=problem.table.space,
            replay=problem.table.path,
            target=problem.table.setting.target,
            objectives=problem.names,
            sampler=sampler,
            scheduler=scheduler,
            **rungs,
            epochs=problem.table.epochs,
            num_samples=problem.samples,
            seed=seed,
        )
        setup = set_up(look_up(config).in_precision("fp32"), Console(quiet=True))
        self.folder = tempfile.TemporaryDirectory(dir=SCRATCH)
        self.history = setup.history
        self.searcher = ParetoSearcher(
            dataclasses.replace(setup, space=space, backend=ReplayBackend(config, problem.table)),
            place([Node(cpus=problem.at_once)], problem.cap),
            SearchStore.create(Path(self.folder.name), {}),
        )
        # The sampler plans for as many trials as the others, but the search must not end before the epochs do
        self.searcher.config = config.replace(num_samples=problem.cap)

    def ask(self, trial: str) -> tuple[dict[str, Any], int] | None:
        """Ask the searcher."""
        handed = self.searcher.suggest(trial)
        if not isinstance(handed, dict):
            return None
        return dict(handed["assignment"].config), len(self.history.leg(trial).epochs)

    def tell(self, trial: str, values: dict[str, float], *, last: bool) -> bool:
        """Tell the recorder, and at the end of a trial also the searcher."""
        if self.searcher.recorder.report(trial, values) and not last:
            return True
        self.searcher.on_trial_complete(trial, values)
        return False


class RayEngine(Engine):
    """A searcher and a scheduler of Ray Tune, called as its ``TuneController`` calls them."""

    def __init__(self, searcher: Any, scheduler: Any) -> None:
        self.searcher = searcher
        self.scheduler = scheduler
        self.epochs: dict[str, int] = {}

    def ask(self, trial: str) -> tuple[dict[str, Any], int] | None:
        """Ask the searcher."""
        config = self.searcher.suggest(trial)["config"]
        self.scheduler.on_trial_add(None, SimpleNamespace(trial_id=trial))
        self.epochs[trial] = 0
        return config, 0

    def tell(self, trial: str, values: dict[str, float], *, last: bool) -> bool:
        """Tell the scheduler, and the searcher."""
        self.epochs[trial] += 1
        known, result = SimpleNamespace(trial_id=trial), {**values, "training_iteration": self.epochs[trial]}
        if not last and self.scheduler.on_trial_result(None, known, result) == "CONTINUE":
            self.searcher.on_trial_result(trial, result)
            return True
        self.scheduler.on_trial_complete(None, known, result)
        self.searcher.on_trial_complete(trial, result)
        return False


def ray_engine(
    problem: Problem, space: Space, seed: int, searcher: str, factor: float | None, first: int = 1
) -> Engine:
    """Return an engine of Ray: ``OptunaSearch`` or random search, with FIFO (no factor) or ASHA."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.tune.search.optuna import OptunaSearch

    logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)
    context = problem.table.context
    search = OptunaSearch(
        lambda trial: {"config": space.sample(trial, context)},
        metric=list(problem.names),
        mode=["min" if o.direction == "minimize" else "max" for o in problem.objectives],
        # Random search is Optuna's, because Ray's own generator does not support conditional parameters
        sampler=optuna.samplers.RandomSampler(seed=seed) if searcher == "random" else None,
        seed=None if searcher == "random" else seed,
    )
    epochs = problem.table.epochs
    mode = "min" if problem.trained.direction == "minimize" else "max"
    asha = partial(ASHAScheduler, metric=problem.trained.name, mode=mode, max_t=epochs, grace_period=first)
    return RayEngine(search, FIFOScheduler() if factor is None else asha(reduction_factor=factor))


class SyneEngine(Engine):
    """Syne Tune's MOASHA, called as its ``Tuner`` calls it. It minimises, so it gets losses."""

    def __init__(self, problem: Problem, space: Space, seed: int, *, ranks: bool) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.schedulers.multiobjective import multiobjective_priority as priorities
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        class Ranks(priorities.NonDominatedPriority):
            def priority_unsafe(self, objectives: Any) -> Any:
                return np.argsort(super().priority_unsafe(objectives))

        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        draw = SimpleNamespace(sample=lambda: space.sample(study.ask(), problem.table.context))
        self.objectives = problem.objectives
        self.scheduler = MOASHA(
            config_space={"config": draw},
            metrics=list(problem.names),
            time_attr="epoch",
            max_t=problem.table.epochs,
            random_seed=seed,
            multiobjective_priority=Ranks() if ranks else None,
        )
        self.trials: dict[str, Any] = {}
        self.new = partial(Trial, creation_time=None)

    def ask(self, trial: str) -> tuple[dict[str, Any], int] | None:
        """Ask the scheduler."""
        config = self.scheduler.suggest().config
        self.trials[trial] = self.new(trial_id=len(self.trials), config=config)
        self.scheduler.on_trial_add(self.trials[trial])
        return config["config"], 0

    def tell(self, trial: str, values: dict[str, float], *, last: bool) -> bool:
        """Tell the scheduler."""
        losses = {o.name: o.loss(values[o.name]) for o in self.objectives}
        known, result = self.trials[trial], {"epoch": int(values["epoch"]), **losses}
        if self.scheduler.on_trial_result(known, result) == "CONTINUE":
            return True
        self.scheduler.on_trial_remove(known)
        return False


def engines() -> dict[str, Callable[..., Engine]]:
    """Return functions that make the engines, by name."""
    found: dict[str, Callable[..., Engine]] = {
        f"{sampler}/{scheduler}": partial(Ours, sampler=sampler, scheduler=scheduler)
        for sampler, scheduler in itertools.product(SAMPLERS, SCHEDULERS)
        if sampler in ("random", "tpe") or scheduler in ("none", "pareto_asha")
    }
    for sampler in ("random", "tpe"):
        found[f"{sampler}/none, defer"] = partial(Ours, sampler=sampler, scheduler="none", defer=True)
    for sampler, (factor, first) in itertools.product(("random", "tpe", "ehvi"), RUNGS[:2]):
        rungs = {"scheduler": "pareto_asha", "reduction_factor": factor, "min_epochs": first}
        found[f"{sampler}/pareto_asha {factor} from {first}"] = partial(Ours, sampler=sampler, **rungs)
    for searcher in ("optuna", "random"):
        found[f"ray {searcher}+fifo"] = partial(ray_engine, searcher=searcher, factor=None)
        found[f"ray {searcher}+asha"] = partial(ray_engine, searcher=searcher, factor=4)
        for factor, first in RUNGS:
            asha = partial(ray_engine, searcher=searcher, factor=factor, first=first)
            found[f"ray {searcher}+asha {factor} from {first}"] = asha
    if importlib.util.find_spec("syne_tune") is not None:
        found["syne MOASHA"] = partial(SyneEngine, ranks=False)
        found["syne MOASHA, ranks"] = partial(SyneEngine, ranks=True)
    return found


@cache
def _problem(path: Path, *rest: Any) -> Problem:
    return Problem(ReplayTable.read(path), *rest)


def run(job: tuple[str, int], arguments: tuple[Any, ...]) -> tuple[str, list[tuple[int, float]], float]:
    """Run one engine with one seed; return its name, its curve and the seconds it took."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    name, seed = job
    np.random.seed(seed)  # the ASHA of Ray and of Syne Tune draw brackets from it, although there is only one
    started = time.process_time()
    curve = simulate(engines()[name], _problem(*arguments), seed)
    return name, curve, time.process_time() - started


def at(curve: list[tuple[int, float]], epochs: int) -> float:
    """Return a curve's value after a number of epochs."""
    return max(value for spent, value in curve if spent <= epochs)


def reached(curve: list[tuple[int, float]], value: float) -> int | None:
    """Return the number of epochs after which a curve reached a value, or None."""
    return next((spent for spent, found in curve if found >= value), None)


def interval(values: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean, from 2,000 bootstrap samples."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def quantile(values: list[int | None], share: float) -> float | None:
    """Return a quantile; None counts as larger than any number."""
    ordered = sorted(float("inf") if value is None else value for value in values)
    found = ordered[min(int(share * len(ordered)), len(ordered) - 1)]
    return None if found == float("inf") else found


def summary(curves: list[list[tuple[int, float]]], full: float, points: list[int]) -> dict[str, Any]:
    """Return the statistics of one engine over its seeds."""
    shares = [[at(curve, epochs) / full for curve in curves] for epochs in points]
    needed = [reached(curve, TARGET * full) for curve in curves]
    return {
        "seeds": len(curves),
        "mean": [statistics.fmean(values) for values in shares],
        "interval": [interval(values) for values in shares],
        "epochs_to_target": {str(q): quantile(needed, q) for q in (0.25, 0.5, 0.75)},
        "not_reached": needed.count(None),
        "area": statistics.fmean(statistics.fmean(values) for values in shares),
    }


def table_of(document: dict[str, Any]) -> str:
    """Return the document as text, the best engine first."""
    shown = [p for p in document["checkpoints"] if p in document["shown"]]
    head = "".join(f"{f'{p} ep.':>18}" for p in shown)
    lines = [f"{'engine':28}{'seeds':>6}{head}   epochs to 95 % (quartiles)  not reached"]
    rows = document["engines"].items()
    for name, row in sorted(rows, key=lambda item: -item[1]["area"]):
        cells = ""
        for point in shown:
            number = document["checkpoints"].index(point)
            low, high = row["interval"][number]
            cells += f"{row['mean'][number]:8.1%} ({low:.0%}-{high:.0%})".rjust(18)
        needed = ["-" if v is None else f"{v:.0f}" for v in row["epochs_to_target"].values()]
        quartiles = f"{needed[1]:>6} ({needed[0]}-{needed[2]})"
        lines.append(f"{name:28}{row['seeds']:6}{cells}   {quartiles:26} {row['not_reached']:6}")
    return "\n".join(lines)


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw the mean and interval of some engines against the epochs spent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=160)
    points = document["checkpoints"]
    for name, colour in COLOURS.items():
        if name not in document["engines"]:
            continue
        row = document["engines"][name]
        low, high = (np.array(row["interval"]) * 100).T
        style = "-" if "/" in name else "--"
        axes.plot(points, np.array(row["mean"]) * 100, style, color=colour, label=name, linewidth=1.8)
        axes.fill_between(points, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 * TARGET, color="#777777", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, points[-1])
    axes.set_ylim(70, 100.3)
    axes.set_xlabel("epochs spent, all trials together")
    axes.set_ylabel("hypervolume, % of all recorded trials'")
    axes.set_title(
        f"{document['space']}: {' and '.join(document['objectives'])}, {document['at_once']} trials at once; "
        "mean and 95 % interval",
        fontsize=9,
        loc="left",
    )
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def verdict(document: dict[str, Any]) -> str:
    """Return a text that compares this project's best engine with the best of Ray and of Syne Tune."""
    lines = []
    rows = document["engines"]
    sides = [[name for name in rows if ("/" in name) is ours] for ours in (True, False)]
    if not all(sides):
        return "nothing to compare"
    # An engine may reach 95 % early by luck, so engines that missed it in many runs are left out.
    steady = [[n for n in side if rows[n]["not_reached"] <= rows[n]["seeds"] / 10] for side in sides]
    if all(steady):
        medians = {name: rows[name]["epochs_to_target"]["0.5"] for side in steady for name in side}
        ours, theirs = (min(side, key=medians.__getitem__) for side in steady)
        lines.append(
            f"95 %, in the median of those that miss it in a tenth of their runs at most: {ours} after "
            f"{medians[ours]:.0f} epochs, {theirs} after {medians[theirs]:.0f}: "
            f"{medians[theirs] / medians[ours]:.2f} times as many"
        )
    theirs = max(sides[1], key=lambda name: rows[name]["mean"][-1])
    reached_there = rows[theirs]["mean"][-1]
    firsts = {
        name: epochs
        for name in sides[0]
        for epochs, mean in zip(reversed(document["checkpoints"]), reversed(rows[name]["mean"]), strict=True)
        if mean >= reached_there
    }
    if firsts:
        ours = min(firsts, key=firsts.__getitem__)
        lines.append(
            f"the {reached_there:.1%} of {theirs} after {document['cap']} epochs, in the mean: "
            f"{ours} after {firsts[ours]}: {document['cap'] / firsts[ours]:.2f} times as many"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path("benchmarks/tables/pmf_nas.parquet"))
    parser.add_argument("--objectives", default="memory,accuracy")
    parser.add_argument("--engines", default="*", help="names or patterns, such as 'ray *', with ';' between")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cap", type=int, default=320, help="epochs that a run may spend")
    parser.add_argument("--at-once", type=int, default=4, help="simulated workers")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    above = "count only what is better than having learnt nothing"
    parser.add_argument("--above-guess", action="store_true", help=above)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--picture", type=Path, help="where to draw")
    options = parser.parse_args()

    names = tuple(options.objectives.split(","))
    arguments = (options.table, names, options.at_once, options.cap, options.above_guess)
    problem = _problem(*arguments)
    known = engines()
    if not any(name.startswith("syne") for name in known):
        print("Syne Tune is not installed, so its MOASHA is left out (pip install syne-tune==0.16.0)")
    patterns = options.engines.split(";")
    chosen = [name for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    jobs = [
        (name, seed)
        for name in chosen
        for seed in range(min(options.seeds, SEEDS.get(name.partition("/")[0], options.seeds)))
    ]
    points = [*range(20, options.cap, 20), options.cap]
    settings = {
        "table": options.table.name,
        "fingerprint": problem.table.fingerprint,
        "space": problem.table.space,
        "trials": len(problem.table.rows),
        "objectives": list(names),
        "at_once": options.at_once,
        "cap": options.cap,
        "above_guess": options.above_guess,
        "full_hypervolume": problem.full,
        "checkpoints": points,
        "shown": [p for p in (60, 100, 200, options.cap) if p <= options.cap],
        "versions": {name: version(name) for name in ("optuna", "ray")},
    }
    document: dict[str, Any] = {**settings, "engines": {}}
    document |= kept_document(parser, options.out, settings)  # engines that are not run again stay
    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in chosen}
    seconds = dict.fromkeys(chosen, 0.0)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        results = pool.imap_unordered(partial(run, arguments=arguments), jobs)
        for name, curve, took in track(results, "searching", len(jobs), console=Console(stderr=True)):
            curves[name].append(curve)
            seconds[name] += took
    for name in chosen:
        cpu = seconds[name] / len(curves[name])
        document["engines"][name] = {**summary(curves[name], problem.full, points), "cpu_seconds": cpu}
    print(table_of(document))
    print(verdict(document))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")
    if options.picture:
        draw(document, options.picture)


if __name__ == "__main__":
    main()
