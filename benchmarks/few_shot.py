"""How accuracy grows with the number of training rows, for several methods (as in Fig. 7 of the MoPE paper).

Every method is trained in the program's defaults with the first point of its space, on 64, 256, 512 and 1,024
training rows and on all of them, once for each seed, which also draws the rows (``--train-rows``). The rows
of a smaller number are among those of a larger one, and each class has its share. All trainings are
validated and tested on the whole splits. The probe, a linear model on frozen features, is what a method has
to beat.

The table has a row for each method and a column for each number of rows: a metric on the test split, as mean
and standard deviation over the seeds. Results are written after each training. What the file holds already is
not trained again. The curves are drawn beside it.

The figure shows the accuracy on SNLI-VE and the micro F1 on MM-IMDB. What comes closest here:

    python benchmarks/few_shot.py --dataset openclipart_match
    python benchmarks/few_shot.py --dataset openclipart_topics --metric micro_f1
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from kept import kept_document, step_precision
from worth import PROBE, Job, jobs_of, measure, task_of, write

#: Those of the figure, with fusion by fine-tuning (``sequential_fuse``), and late fusion below them.
METHODS = ("late_concat", "prompt_fuse", "p_sequential_fuse", "sequential_fuse", "mope")
ROWS = (64, 256, 512, 1024)
ALL = "all"
OUT = Path("benchmarks/results/few_shot.json")


def few_shot_jobs(
    dataset: str, methods: Sequence[str], rows: Sequence[int], seeds: int, **settings: Any
) -> Iterator[Job]:
    """Yield the trainings of all methods with each number of rows, and with all rows.

    Args:
        dataset: Name or folder of the dataset.
        methods: Names of the methods.
        rows: Numbers of rows.
        seeds: How often each is trained, each time with other rows.
        settings: Settings of the search whose trials are trained.
    """
    for count in (*rows, None):
        name = f"{dataset}@{count or ALL}"
        for method in (PROBE, *methods):
            for seed in range(seeds):
                drawn = {**settings, "train_rows": count, "seed": seed}
                (job,) = jobs_of(name, [Path(dataset)], method, 1, **drawn)
                yield replace(job, seed=seed)


def curves_of(
    jobs: Sequence[Job], results: Mapping[str, Mapping[str, Any]], metric: str
) -> dict[str, dict[str, list[float]]]:
    """Return the values of a metric by method and number of rows, one for each seed."""
    curves: dict[str, dict[str, list[float]]] = {}
    for job in jobs:
        curve = curves.setdefault(job.method, {})
        curve.setdefault(job.dataset.rpartition("@")[2], []).append(results[job.key]["metrics"][metric])
    return curves


def table(curves: Mapping[str, Mapping[str, Sequence[float]]], metric: Any) -> str:
    """Return the curves as a Markdown table."""
    scale, digits = (100, 1) if metric.unit == "%" else (1, 3)
    counts = list(dict.fromkeys(count for curve in curves.values() for count in curve))
    unit = ", %" if metric.unit == "%" else ""
    lines = [f"| {metric.name}{unit} | " + " | ".join(counts) + " |", "|---|" + "---|" * len(counts)]
    for method, curve in curves.items():
        cells = []
        for count in counts:
            values = scale * np.array(curve.get(count, []))
            spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}" if len(values) else "")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(
    curves: Mapping[str, Mapping[str, Sequence[float]]], total: int, metric: Any, title: str, path: Path
) -> None:
    """Draw the curves, with bars of one standard deviation over the seeds.

    Args:
        curves: The values by method and number of rows.
        total: Number of all training rows.
        metric: The metric that they are values of.
        title: Title of the picture.
        path: Where to draw; the suffix is the format.
    """
    from search.pictures import new_figure

    figure, axes = new_figure(7, 4.5)
    scale = 100 if metric.unit == "%" else 1
    for method, curve in curves.items():
        counts = [total if count == ALL else int(count) for count in curve]
        values = [scale * np.array(each) for each in curve.values()]
        spreads = [each.std(ddof=1) if len(each) > 1 else 0.0 for each in values]
        style = "k--" if method == PROBE else "o-"
        axes.errorbar(counts, [each.mean() for each in values], spreads, fmt=style, capsize=3, label=method)
    axes.set_xscale("log", base=2)
    ticks = sorted({total if count == ALL else int(count) for curve in curves.values() for count in curve})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"{metric.name} on test{', %' if metric.unit == '%' else ''}")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Train what is not there yet, write it, print the table and draw the picture."""
    from trainables.data import open_dataset

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="openclipart")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="numbers of training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--metric", help="metric of the table; default: the first of the dataset's task")
    parser.add_argument("--epochs", type=int, help="epochs of each training; default: the program's")
    parser.add_argument("--image-size", type=int, help="side of the images; default: the program's")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--picture", type=Path, help="where to draw; default: beside the results")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("epochs", "image_size")}
    settings = {**given, "precision": step_precision()}
    document = {"results": {}, **kept_document(parser, options.out, settings), "settings": settings}
    results = document["results"]
    trained = {name: value for name, value in given.items() if value is not None}
    rows = [int(count) for count in options.rows.split(",")]
    jobs = list(few_shot_jobs(options.dataset, options.methods.split(","), rows, options.seeds, **trained))
    missing = [job for job in jobs if job.key not in results]
    print(f"{len(missing)} of {len(jobs)} trainings to run", flush=True)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for number, (key, found) in enumerate(pool.imap_unordered(measure, missing), start=1):
            results[key] = found
            write(options.out, document)
            print(f"{number:4} {key}: {found['seconds']:.0f} s", flush=True)
    metrics = {metric.name: metric for metric in task_of(options.dataset).metrics}
    metric = metrics[options.metric] if options.metric else next(iter(metrics.values()))
    curves = curves_of(jobs, results, metric.name)
    document["curves"] = {"dataset": options.dataset, "metric": metric.name, "values": curves}
    write(options.out, document)
    print(f"\n{options.dataset}\n\n{table(curves, metric)}")
    total = open_dataset(options.dataset).count("train")
    draw(curves, total, metric, options.dataset, options.picture or options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
