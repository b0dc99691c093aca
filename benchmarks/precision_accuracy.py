"""Accuracy of methods trained in bfloat16 against fp32, paired by seed.

Each method is trained with the first point of its space, which is a paper's setting, on the included data and
encoders. Both precisions start from the same weights and see the same batches and dropout.

Images are small, so that all of it takes half an hour on two cores that compute in bfloat16 natively.

    python benchmarks/precision_accuracy.py [--methods pmf,mope] [--seeds 3] [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

METHODS = ("pmf", "mope", "wander", "lora", "adapter", "linear", "late_concat")
PRECISIONS = ("fp32", "bf16-frozen")
IMAGE_SIZE = 56


@dataclass(frozen=True)
class Job:
    """One training: settings, configuration and seed."""

    spec: Any
    config: dict[str, Any]
    seed: int


def train(job: Job) -> float:
    """Train in one process; return the validation accuracy at its end."""
    from emulation import products_in

    from trainables.trial.assignment import Assignment
    from trainables.trial.run import TrialRun

    with products_in(job.spec.setting.precision):
        run = TrialRun(job.spec, Assignment(config=job.config, seed=job.seed))
        return [run.epoch() for _ in range(job.spec.epochs)][-1]["accuracy"]


def jobs_of(method: str, seeds: int, **settings: Any) -> list[Job]:
    """Return the trainings of a method: all seeds in the first precision, then all in the second.

    Args:
        method: Name of the method.
        seeds: Number of seeds.
        settings: Settings of the search whose trials are trained.
    """
    from rich.console import Console

    from search.config import SearchConfig
    from search.setup import look_up
    from spaces import get_space

    found = look_up(SearchConfig(space=method, **settings))
    space, context = get_space(method), found.backend.context
    config = space.at(space.first_points(context)[0], context).config
    backends = [found.backend.in_precision(precision) for precision in PRECISIONS]
    specs = [backend.prepare(space, Console(quiet=True)).spec for backend in backends]
    return [Job(spec, config, seed) for spec in specs for seed in range(seeds)]


def row_of(method: str, accuracies: Sequence[float]) -> dict[str, Any]:
    """Return the accuracies of a method's jobs by precision, and their mean difference."""
    half = len(accuracies) // 2
    paired = list(zip(accuracies[:half], accuracies[half:], strict=True))
    return {
        "method": method,
        **{precision: [pair[i] for pair in paired] for i, precision in enumerate(PRECISIONS)},
        "mean_difference": fmean(after - before for before, after in paired),
    }


def main() -> None:
    """Train, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision_accuracy.json"))
    options = parser.parse_args()
    methods = options.methods.split(",")
    settings = {"epochs": options.epochs, "image_size": IMAGE_SIZE}
    jobs = {method: jobs_of(method, options.seeds, **settings) for method in methods}
    print(f"{'accuracy in %':14} {'fp32':>6} {'bf16':>6} {'differ':>6}   (by seed)")
    rows = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        accuracies = pool.imap(train, [job for of_method in jobs.values() for job in of_method])
        for method, of_method in jobs.items():
            row = row_of(method, [next(accuracies) for _ in of_method])
            rows.append({**row, "config": of_method[0].config})
            full, half = (row[precision] for precision in PRECISIONS)
            each = " ".join(f"{100 * (b - a):+.1f}" for a, b in zip(full, half, strict=True))
            means = f"{100 * fmean(full):6.1f} {100 * fmean(half):6.1f} {100 * row['mean_difference']:+6.2f}"
            print(f"{method:14} {means}   ({each})", flush=True)
    document = {**settings, "seeds": options.seeds, "rows": rows}
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
