"""Compares searching a space by one supernet with searching it trial by trial, at about equal compute.

For each seed a one-shot search runs first. The trial-by-trial searches of the same space, data and encoders
then train for as many seconds as it took from start to end (``--time-budget``; a trial that is still running
at the end does not count). Their own start, their scores on the test split and their report come on top, so
that they take most of a minute longer. Only one search runs at a time. The script reports

- the hypervolume of the final fronts on the validation split, and of the same configurations on the test
  split, which no search has seen; both use the reference point that all searches of the space share;
- seconds from start to end, and sample-epochs: rows times epochs of training of the supernet and the trials.
  The seconds include the evaluation of subnets;
- the hypervolume after each trial, and from it the share of the one-shot search's seconds after which a
  trial-by-trial search had reached the one-shot search's final hypervolume.

A short search fills the caches of data, features and predictions before anything is measured. A search that
the file ``--json`` has already is not run again.

    python benchmarks/oneshot.py --seeds 3 --plot docs/oneshot.png
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kept import kept_document, step_precision
from record_table import subset

from search.goals.objectives import get_objectives, normalised
from search.goals.pareto import Front, hypervolume
from search.records.history import TrialRecord
from search.records.status import Status
from search.records.store import SearchStore

#: Trial-by-trial engines: the best one of this project, and a baseline.
ENGINES = {
    "ehvi": ["--sampler", "ehvi", "--scheduler", "none"],
    "random": ["--sampler", "random", "--scheduler", "none"],
}
OBJECTIVES = get_objectives(("memory", "accuracy"))
SMALL = ["--text-length", "16", "--image-size", "56", "--batch-size", "16", "--precision", "bf16-frozen"]


def run(name: str, folder: Path, arguments: list[str]) -> tuple[dict[str, Any], float, float]:
    """Run a search; return its document, its start (Unix time) and its duration in seconds."""
    command = [sys.executable, str(Path(__file__).parents[1] / "search.py"), "--name", name, "--json"]
    where = ["--storage-path", str(folder), "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
    started = time.time()
    done = subprocess.run([*command, *where, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), started, time.time() - started


def measured(folder: Path, name: str, document: dict[str, Any], started: float) -> dict[str, Any]:
    """Return the results of a search, from its document, its store and its start (Unix time)."""
    store = SearchStore.read(folder / name)
    reference, facts = store.fact("reference"), store.fact("facts")
    records = [TrialRecord.from_dict(*trial) for trial in store.trials()]
    supernet = store.fact("supernet")
    store.close()

    def volume(points: list[dict[str, float]]) -> float:
        losses = [normalised(OBJECTIVES, reference, point) for point in points]
        return hypervolume(losses, [1.0] * len(OBJECTIVES))

    validation = [{"memory": row["memory"], "accuracy": row["accuracy"]} for row in document["front"]]
    test = [{"memory": row["memory"], "accuracy": row["test_accuracy"]} for row in document["front"]]
    ended = sorted((r for r in records if r.status == Status.FINISHED), key=lambda r: r.epochs[-1]["time"])
    front: Front[str] = Front()
    curve = []
    for record in ended:
        values = record.values
        front.add(record.trial_id, normalised(OBJECTIVES, reference, values))
        curve.append(
            {
                "seconds": record.epochs[-1]["time"] - started,
                "hypervolume": hypervolume([point for _, point in front.members], [1.0, 1.0]),
            }
        )
    trained = sum(len(record.epochs) for record in records) + len(supernet["epochs"] if supernet else [])
    return {
        "hypervolume": volume(validation),
        "test_hypervolume": volume(test),
        "front": len(document["front"]),
        "trials": document["trials"],
        "sample_epochs": facts["dataset.train"] * trained,
        "evaluated": document.get("evaluated"),
        "evaluated_rows": document.get("evaluated", 0) * facts["dataset.validation"],
        "kendall_tau": document.get("kendall_tau"),
        "curve": curve,
    }


def reached(curve: list[dict[str, float]], wanted: float) -> float | None:
    """Return the seconds after which a search reached a hypervolume; None if it never did."""
    return next((point["seconds"] for point in curve if point["hypervolume"] >= wanted), None)


def main() -> None:
    """Run the searches, print a table, write JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="pmf_nas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--budget",
        type=float,
        default=1.0,
        help="seconds of trial-by-trial searches, in those of a one-shot search",
    )
    parser.add_argument("--common", default="", help="more options of all searches")
    parser.add_argument("--small", action="store_true", help="few rows and pixels: see record_table.py")
    parser.add_argument("--epochs", type=int, default=5, help="of trials in trial-by-trial searches")
    parser.add_argument("--oneshot", default="", help="more options of the one-shot search")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/oneshot.json"))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()

    common = ["--space", options.space, "--no-probe", *options.common.split()]
    if options.small:
        common += ["--dataset", str(subset(0)), *SMALL]
    settings = {k: str(v) for k, v in vars(options).items() if k not in ("json", "plot", "seeds", "engines")}
    settings |= {} if options.small else {"precision": step_precision()}
    rows: list[dict[str, Any]] = kept_document(parser, options.json, settings).get("rows", [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run("warm-up", folder, [*common, "--num-samples", "2", "--epochs", "1", "--sampler", "random"])
        for seed in range(options.seeds):
            for engine in ("oneshot", *options.engines.split(",")):
                mine = {row["engine"]: row for row in rows if row["seed"] == seed}
                if engine in mine:
                    continue
                name = f"{engine}-{seed}"
                if engine == "oneshot":
                    arguments = ["--strategy", "oneshot", *options.oneshot.split()]
                else:
                    budget = f"{math.ceil(mine['oneshot']['seconds'] * options.budget)}s"
                    arguments = [*ENGINES[engine], "--epochs", str(options.epochs), "--num-samples", "1000"]
                    arguments += ["--time-budget", budget]
                document, started, took = run(name, folder, [*common, *arguments, "--seed", str(seed)])
                result = measured(folder, name, document, started)
                rows.append({"engine": engine, "seed": seed, "seconds": took, **result})
                print_row(rows[-1])
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
    summarise(rows)
    if options.plot:
        plot(rows, options.plot, options.space)


def print_row(row: dict[str, Any]) -> None:
    """Print the results of a search."""
    print(
        f"{row['engine']:8} seed {row['seed']}  hypervolume {row['hypervolume']:.4f}  "
        f"test {row['test_hypervolume']:.4f}  front {row['front']}  trials {row['trials']:3}  "
        f"{row['seconds']:6.0f} s  {row['sample_epochs']:7,} sample-epochs"
        + (f"  {row['evaluated']} subnets  tau {row['kendall_tau']}" if row["engine"] == "oneshot" else ""),
        flush=True,
    )


def summarise(rows: list[dict[str, Any]]) -> None:
    """Print means over seeds, and when trial-by-trial searches reached the one-shot search's hypervolume."""
    oneshot = {row["seed"]: row for row in rows if row["engine"] == "oneshot"}
    print("\nengine     hypervolume      test  seconds  sample-epochs  had the one-shot search's after")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = [row for row in rows if row["engine"] == engine]
        means = [statistics.fmean(r[key] for r in mine) for key in ("hypervolume", "test_hypervolume")]
        costs = [statistics.fmean(r[key] for r in mine) for key in ("seconds", "sample_epochs")]
        when = []
        for row in mine if engine != "oneshot" else []:
            seconds = reached(row["curve"], oneshot[row["seed"]]["hypervolume"])
            share = None if seconds is None else seconds / oneshot[row["seed"]]["seconds"]
            when.append("never" if share is None else f"{share:.2f}")
        figures = f"{means[0]:11.4f} {means[1]:9.4f} {costs[0]:8.0f} {costs[1]:14,.0f}"
        print(f"{engine:10} {figures}  {', '.join(when)}")


def plot(rows: list[dict[str, Any]], path: Path, space: str) -> None:
    """Draw the hypervolumes over time in minutes, and those of the final fronts on both splits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = {"oneshot": "#0b6e4f", "ehvi": "#4c6a92", "random": "#9aa5b1"}
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), dpi=160, width_ratios=(2, 1))
    for row in rows:
        colour, label = colours[row["engine"]], row["engine"] if row["seed"] == 0 else None
        times = [*(point["seconds"] / 60 for point in row["curve"]), row["seconds"] / 60]
        volumes = [*(point["hypervolume"] for point in row["curve"]), row["hypervolume"]]
        panels[0].step(times, volumes, where="post", color=colour, label=label)
        panels[0].scatter(times[-1], volumes[-1], s=24, color=colour, zorder=3)
        panels[1].scatter(row["hypervolume"], row["test_hypervolume"], s=30, color=colour)
    panels[0].set_xlabel("minutes")
    panels[0].set_ylabel("hypervolume (validation)")
    panels[1].set_xlabel("hypervolume (validation)")
    panels[1].set_ylabel("hypervolume (test)")
    for panel in panels:
        panel.grid(alpha=0.25)
    panels[0].legend(fontsize=8)
    figure.suptitle(f"{space}: one supernet against trial by trial", fontsize=10)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
