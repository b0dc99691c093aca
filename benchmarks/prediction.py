"""The time that memory predictions take: for one configuration, and for a thousand candidates of a search.

First, the script measures one warm prediction: a new member of ``pmf_nas`` over bert-base and vit-base, after
other members have been predicted, so that only the encoders are known. Then it measures a search's work for a
thousand candidates over the included encoders: asking Optuna's TPE, which is told a value for each, and
predicting. Then it predicts the same candidates with a new predictor, which finds the results on disk.

    python benchmarks/prediction.py [--candidates 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import torch
from rich.console import Console
from rich.table import Table

from search.engine.searcher import make_sampler
from spaces import SpaceContext, get_space
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

SPACE = get_space("pmf_nas")


def predictor(text: str, image: str, memo: PredictionMemo | None) -> MemoryPredictor:
    """Return a predictor in the default setting."""
    encoders = {"text": resolve_encoder("text", text), "image": resolve_encoder("image", image)}
    return MemoryPredictor(encoders, get_task(DEFAULT_TASK).of_size(13), TrainingSetting(), memo=memo)


def one_by_one(count: int) -> dict[str, float]:
    """Return the seconds of warm predictions of random members over base encoders."""
    warm = predictor("arch:bert-base", "arch:vit-base", None)
    context = SpaceContext.of(warm.encoders)
    study = optuna.create_study(sampler=make_sampler("random", count, seed=0))
    warm.predict("pmf", {})
    seconds = []
    for _ in range(count):
        config = SPACE.sample(study.ask(), context)
        started = time.perf_counter()
        warm.predict_configuration(config)
        seconds.append(time.perf_counter() - started)
    return {
        "median": statistics.median(seconds),
        "mean": statistics.mean(seconds),
        "worst": max(seconds),
    }


def candidates(count: int, folder: Path) -> dict[str, float]:
    """Return the seconds of asking for candidates, of predicting them, and of reading the predictions."""
    memo = PredictionMemo(folder / "predictions.sqlite")
    fresh = predictor("minilm", "dinov2-small", memo)
    context = SpaceContext.of(fresh.encoders)
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=make_sampler("tpe", count, seed=0)
    )
    configs: list[dict[str, Any]] = []
    asking = predicting = 0.0
    for number in range(count):
        started = time.perf_counter()
        trial = study.ask()
        configs.append(SPACE.sample(trial, context))
        asked = time.perf_counter()
        memory = fresh.predict_configuration(configs[-1]).memory
        predicting += time.perf_counter() - asked
        study.tell(trial, [memory / 2**30, (number * 7919 % 1000) / 1000])
        asking += asked - started
    again = predictor("minilm", "dinov2-small", PredictionMemo(folder / "predictions.sqlite"))
    started = time.perf_counter()
    for config in configs:
        again.predict_configuration(config)
    seen = time.perf_counter() - started
    without_rate = [tuple((k, v) for k, v in c.items() if k != "learning_rate") for c in configs]
    return {
        "asking": asking,
        "predicting": predicting,
        "together": asking + predicting,
        "seen": seen,
        "distinct": len(set(without_rate)),
    }


def main() -> None:
    """Measure the times, print them and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--warm", type=int, default=60, help="number of single predictions")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "prediction.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warm = one_by_one(arguments.warm)
    with tempfile.TemporaryDirectory() as folder:
        many = candidates(arguments.candidates, Path(folder))
    table = Table(title="predicting memory, on one core", title_justify="left", box=None)
    table.add_column("")
    table.add_column("seconds", justify="right")
    table.add_row("one configuration, warm, base encoders: median", f"{warm['median']:.3f}")
    table.add_row("    mean", f"{warm['mean']:.3f}")
    table.add_row("    worst", f"{warm['worst']:.3f}")
    table.add_row(f"{arguments.candidates} candidates of pmf_nas: asking", f"{many['asking']:.1f}")
    table.add_row(f"    predicting ({many['distinct']} different in memory)", f"{many['predicting']:.1f}")
    table.add_row("    together", f"{many['together']:.1f}")
    table.add_row("    predicting them again, from disk", f"{many['seen']:.2f}")
    Console(highlight=False).print(table)
    document = {
        "warm": warm,
        "candidates": arguments.candidates,
        "many": many,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
