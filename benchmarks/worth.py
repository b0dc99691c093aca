"""Is fusion worth it? The probe and fusion methods on the included data, with every row tested once.

All rows are dealt into folds; rows with an equal value of a modality stay together. Each fold is the test
split of one dataset, in which the next fold validates and the others train. Every method is trained in the
program's defaults with the first point of its space, which is a paper's setting but for the learning rate,
once in each fold for each seed.

The table has one row for each method: the first metric of the dataset's task when tested, as mean and
standard deviation over the seeds; by how much that is better than the probe, and than the method itself
before its first step, each with the standard error over rows, or over folds if the metric is no mean over
rows; the memory of a step; and the seconds of one core that a training takes, with its evaluations on the
validation split, after the cache of features was filled. Of a fold's trainings the fastest counts, because
what else a machine does only makes them slower. Results are written after each training. What the
file holds already is not trained again; all of it is in one precision. With ``--precision bf16-frozen``, a
machine without instructions for bfloat16 goes on with such a file (``emulation.py``); its seconds are more.

With ``--nas N`` there is a row ``pmf_nas`` more: in each fold, the configuration with the best validation
result of a search over N configurations of that space, in which ``pareto_asha`` ends bad ones early, trained
with the same seeds as ``pmf``, which is the space's first point. If the precision of the trainings has to be
emulated, the search is in the machine's own. A line below the table says by how many points what it found is
better.

    python benchmarks/worth.py [--datasets openclipart,digits] [--methods pmf,mope] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from folds import matched_folds, write_folds
from kept import kept_document, native_precision, step_precision, tell_if_emulated

from trainables.step.precision import PRECISIONS

METHODS = ("linear", "late_concat", "lora", "adapter", "wander", "mope", "pmf")
DATASETS = ("openclipart", "openclipart_match")
PROBE = "probe"
NAS = "pmf_nas"
#: The method that is the first point of the space ``NAS``.
NAS_FIRST = "pmf"
OUT = Path("benchmarks/results/worth.json")


@dataclass(frozen=True)
class Job:
    """A training of a method in a fold, or the probe's fit, which has no seed.

    Attributes:
        dataset: Name of the dataset that the folds are of.
        method: The method, or ``probe``.
        fold: Number of the fold that is tested.
        seed: Seed of the training.
        spec: Settings of the trial.
        config: Configuration of the trial.
        memory: Predicted GiB of a step.
    """

    dataset: str
    method: str
    fold: int
    seed: int
    spec: Any
    config: Mapping[str, Any]
    memory: float

    @property
    def key(self) -> str:
        """The job's name in the results."""
        return f"{self.dataset} {self.method} {self.fold} {self.seed}"


def folds_of(dataset: str, folds: int) -> list[Path]:
    """Return the datasets' folders, one for each fold of all rows of an included dataset."""
    from trainables.cache import cache_dir

    folder = cache_dir() / "worth"
    if dataset == "openclipart_match":
        return matched_folds(write_folds(folder, folds))
    return write_folds(folder, folds, dataset)


def jobs_of(
    dataset: str,
    folders: Sequence[Path],
    method: str,
    seeds: int,
    configs: Sequence[Mapping[str, Any]] | None = None,
    precision: str | None = None,
    **settings: Any,
) -> list[Job]:
    """Return the trainings of a method, or the probe's fits, over all folds and seeds.

    Args:
        dataset: Name of the dataset that the folds are of.
        folders: The dataset of each fold.
        method: Name of a space or ``probe``.
        seeds: Number of seeds.
        configs: The configuration of each fold; None takes the space's first point.
        precision: Precision of the trainings; None takes the machine's.
        settings: Settings of the search whose trials are trained.
    """
    from rich.console import Console

    from search.config import SearchConfig
    from search.setup import look_up
    from spaces import get_space
    from trainables.configuration import split_config
    from trainables.probe import predict_probe
    from trainables.units import GIB

    jobs = []
    space = get_space("linear" if method == PROBE else method)
    for fold, folder in enumerate(folders):
        found = look_up(SearchConfig(space=space.name, dataset=str(folder), **settings))
        backend = found.backend.in_precision(precision or step_precision())
        context = backend.context
        config = configs[fold] if configs else space.at(space.first_points(context)[0], context).config
        prepared = backend.prepare(space, Console(quiet=True))
        if method == PROBE:
            memory = predict_probe(backend.predictor, tuple(backend.encoders), prepared.rows).memory / GIB
        else:
            memory = backend.predictor.predict(*split_config(config)).memory / GIB
        for seed in range(1 if method == PROBE else seeds):
            jobs.append(Job(dataset, method, fold, seed, prepared.spec, config, memory))
    return jobs


def searched(folder: Path, samples: int, **settings: Any) -> dict[str, Any]:
    """Return the configuration that a search over ``NAS`` in a fold finds best on its validation split."""
    from search.api import run_search
    from search.config import SearchConfig

    with tempfile.TemporaryDirectory() as place:
        result = run_search(
            SearchConfig(
                space=NAS,
                dataset=str(folder),
                num_samples=samples,
                scheduler="pareto_asha",
                probe=False,
                storage_path=place,
                tracking_uri=f"sqlite:///{place}/mlflow.db",
                **settings,
            )
        )
    metric = task_of(folder).metrics[0]
    best = max if metric.direction == "maximize" else min
    return dict(best(result.front, key=lambda member: member[metric.name])["config"])


def trained_as_first(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the trainings of ``NAS`` that are those of the first point, which is the best found, by keys."""
    first = {(job.dataset, job.fold, job.seed): job for job in jobs if job.method == NAS_FIRST}
    pairs = ((job, first.get((job.dataset, job.fold, job.seed))) for job in jobs if job.method == NAS)
    return {job.key: other.key for job, other in pairs if other is not None and job.config == other.config}


def task_of(dataset: str | Path) -> Any:
    """Return the task of a dataset."""
    from trainables.data import open_dataset

    return open_dataset(str(dataset)).task


def measure(job: Job) -> tuple[str, dict[str, Any]]:
    """Train, or fit the probe, in one process; return the job's key and its results.

    Returns:
        ``right``: what ``row_results`` returns for the test split; ``start``: the same before the first step;
        ``validation``: the first metric on the validation split; ``metrics``: all metrics on the test split;
        ``seconds`` of the processor for the training or the fit, without filling caches and without testing
        what was trained; ``memory``.
    """
    import torch
    from emulation import products_in

    torch.set_num_threads(1)
    with products_in(job.spec.setting.precision):
        found = _fit(job.spec) if job.method == PROBE else _train(job)
    return job.key, {**found, "memory": job.memory}


def _fit(spec: Any) -> dict[str, Any]:
    import torch

    from trainables.step.precision import default_device
    from trainables.trial.probing import run_probes
    from trainables.trial.workbench import Workbench

    run_probes(spec)  # fills the cache
    started = time.process_time()
    probe = run_probes(spec).joint
    seconds = time.process_time() - started
    bench = Workbench(spec, torch.device(default_device()))
    right = row_results(bench.task, probe.outputs["test"], bench.data.split("test").labels)
    return {
        "right": right,
        "start": right,
        "validation": probe.metrics["validation"][bench.task.metrics[0].name],
        "metrics": probe.metrics["test"],
        "seconds": seconds,
    }


def _train(job: Job) -> dict[str, Any]:
    import torch

    from trainables.data import SPLITS
    from trainables.trial.assignment import Assignment
    from trainables.trial.run import TrialRun

    run = TrialRun(job.spec, Assignment(config=job.config, seed=job.seed))
    task, labels = run.bench.task, run.bench.data.split("test").labels
    run.bench.fill(SPLITS, run.method, run.setting)
    started = time.process_time()
    run.start()
    seconds = time.process_time() - started
    start = torch.from_numpy(run.evaluate("test").outputs)
    started = time.process_time()
    epochs = [run.epoch() for _ in range(job.spec.epochs)]
    seconds += time.process_time() - started
    tested = run.evaluate("test")
    return {
        "right": row_results(task, torch.from_numpy(tested.outputs), labels),
        "start": row_results(task, start, labels),
        "validation": epochs[-1][task.metrics[0].name],
        "metrics": tested.metrics,
        "seconds": seconds,
    }


def row_results(task: Any, outputs: Any, labels: Any) -> str | list[float]:
    """Return what each row of a split contributes to the first metric of its task.

    Returns:
        One character for each row, ``1`` if it is right, if the metric is the share of such rows; else a
        number for each row; and only the metric itself if it is no mean over rows.
    """
    metric = task.metrics[0]
    each = task.row_values(metric.name, outputs.float(), labels)
    if each is None:
        return [task.score(outputs.float(), labels)[metric.name]]
    if metric.share_of_rows:
        return "".join("1" if right else "0" for right in each.tolist())
    return [round(value, 6) for value in each.tolist()]


def rows_of(
    results: Mapping[str, Mapping[str, Any]], dataset: str, folds: int, metric: Any
) -> Iterator[dict[str, Any]]:
    """Yield one row of the table for each method whose seeds were trained in all folds.

    Args:
        results: Results by the keys of jobs.
        dataset: The dataset.
        folds: Number of folds.
        metric: The first metric of the dataset's task. Differences are above 0 if its value is better.
    """
    sign = 1 if metric.direction == "maximize" else -1
    seeds: dict[str, dict[int, dict[int, Mapping[str, Any]]]] = {}
    for key, found in results.items():
        name, method, fold, seed = key.split()
        if name == dataset:
            seeds.setdefault(method, {}).setdefault(int(seed), {})[int(fold)] = found
    right_of: dict[str, dict[int, np.ndarray]] = {}  # by method and seed, shape (rows,) or (folds,)
    for method in (PROBE, *METHODS, NAS):
        whole = {seed: found for seed, found in seeds.get(method, {}).items() if len(found) == folds}
        if not whole:
            continue
        right_of[method] = {seed: sign * _joined(found, "right") for seed, found in whole.items()}
        right = np.stack(list(right_of[method].values()))  # (seeds, rows)
        start = sign * np.stack([_joined(found, "start") for found in whole.values()])
        each = [one for found in whole.values() for one in found.values()]
        values = sign * right.mean(axis=1)
        row = {
            "dataset": dataset,
            "method": method,
            "seeds": len(whole),
            "memory": max(one["memory"] for one in each),
            "seconds": float(np.mean(_fastest(whole))),
            metric.name: float(values.mean()),
            "spread": float(values.std(ddof=1)) if len(whole) > 1 else None,
            "over_probe": _difference(right.mean(axis=0), right_of[PROBE][0]) if PROBE in right_of else None,
            "over_start": _difference(right.mean(axis=0), start.mean(axis=0)),
        }
        if method == NAS:
            row["over_first"] = None
            first, best = right_of.get(NAS_FIRST, {}), right_of[NAS]
            if both := [seed for seed in best if seed in first]:
                means = (np.mean([of[seed] for seed in both], axis=0) for of in (best, first))
                row["over_first"] = _difference(*means)
        yield row


def _fastest(seeds: Mapping[int, Mapping[int, Mapping[str, Any]]]) -> list[float]:
    """Return the seconds of the fastest seed in each fold."""
    folds = sorted(next(iter(seeds.values())))
    return [min(found[fold]["seconds"] for found in seeds.values()) for fold in folds]


def _joined(folds: Mapping[int, Mapping[str, Any]], what: str) -> np.ndarray:
    """Return the results of the rows of all folds, shape (N,)."""
    return np.array([float(value) for fold in sorted(folds) for value in folds[fold][what]])


def _difference(values: np.ndarray, others: np.ndarray) -> list[float]:
    """Return the mean difference over rows or folds, and its standard error by the paired bootstrap."""
    from search.goals.luck import resampled_means

    each = values - others
    return [float(each.mean()), float(resampled_means(each[None]).std(ddof=1))]


def table(rows: Sequence[Mapping[str, Any]], metric: Any) -> str:
    """Return the rows as a Markdown table."""
    scale, digits = (100, 1) if metric.unit == "%" else (1, 3)

    def points(pair: Sequence[float] | None) -> str:
        if pair is None or pair[1] == 0:
            return ""
        return f"{scale * pair[0]:+.{digits}f} ± {scale * pair[1]:.{digits}f}"

    name = f"{metric.name}, %" if metric.unit == "%" else metric.name
    lines = [
        f"| | memory, GiB | seconds | {name} | over the probe | over its start |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = f"{scale * row[metric.name]:.{digits}f}"
        if row["spread"] is not None:
            value += f" ± {scale * row['spread']:.{digits}f}"
        cells = [f"`{row['method']}`", f"{row['memory']:.2f}", f"{row['seconds']:.0f}", value]
        lines.append("| " + " | ".join([*cells, points(row["over_probe"]), points(row["over_start"])]) + " |")
    for row in rows:
        if row.get("over_first"):
            gain, unit = points(row["over_first"]) or "0.0", " points" if metric.unit == "%" else ""
            lines += ["", f"The best of a search of `{NAS}` is better than its first point by {gain}{unit}."]
    return "\n".join(lines)


def main() -> None:
    """Train what is not there yet, write it, and print a table for each dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=84)
    parser.add_argument("--precision", choices=PRECISIONS, help="of the trainings; default: the machine's")
    parser.add_argument("--nas", type=int, default=0, metavar="N", help=f"configurations of {NAS} to search")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    precision = options.precision or step_precision()
    tell_if_emulated(precision)
    settings = {"folds": options.folds, "image_size": options.image_size, "precision": precision}
    settings |= {"nas": options.nas} if options.nas else {}
    document = kept_document(parser, options.out, settings)
    document = {"searched": {}, "results": {}, "tables": {}, **document, **settings}
    given = {"image_size": options.image_size, "precision": precision}
    searching = {**given, "precision": native_precision(precision)}
    names = options.datasets.split(",")
    jobs = []
    for dataset in names:
        folders = folds_of(dataset, options.folds)
        for method in (PROBE, *options.methods.split(",")):
            jobs += jobs_of(dataset, folders, method, options.seeds, **given)
        if options.nas:
            for fold, folder in enumerate(folders):
                if f"{dataset} {fold}" not in document["searched"]:
                    best = searched(folder, options.nas, **searching)
                    document["searched"][f"{dataset} {fold}"] = best
                    write(options.out, document)
            best_of = [document["searched"][f"{dataset} {fold}"] for fold in range(len(folders))]
            jobs += jobs_of(dataset, folders, NAS, options.seeds, best_of, **given)
    for key, first in trained_as_first(jobs).items():
        if first in document["results"]:
            document["results"][key] = document["results"][first]
    for job in jobs:
        if job.key in document["results"]:  # it is predicted, not measured
            document["results"][job.key]["memory"] = job.memory
    missing = sorted((job for job in jobs if job.key not in document["results"]), key=lambda job: job.seed)
    print(f"{len(missing)} of {len(jobs)} trainings to run", flush=True)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for number, (key, found) in enumerate(pool.imap_unordered(measure, missing), start=1):
            document["results"][key] = found
            write(options.out, document)
            print(f"{number:4} {key}: {found['seconds']:.0f} s", flush=True)
    for dataset in names:
        metric = task_of(dataset).metrics[0]
        document["tables"][dataset] = list(rows_of(document["results"], dataset, options.folds, metric))
        print(f"\n{dataset}\n\n{table(document['tables'][dataset], metric)}")
    write(options.out, document)


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write results, so that the file is whole at any time."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    main()
