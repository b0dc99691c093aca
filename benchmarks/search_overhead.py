"""Wall time of a search against a plain Ray Tune script, for the same configurations.

The plain script is a simple first version: a function trainable under ``OptunaSearch`` that loads encoders in
every trial and runs all layers in every step. It uses the same towers, method, data files, resources and
number of concurrent trials. The difference is therefore due to the search's shared work: it keeps encoders
between trials, computes the frozen prefix once and skips unused outputs.

    python benchmarks/search_overhead.py [--epochs 2] [--out benchmarks/results/search_overhead.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

#: The configurations of the trials: the paper's number of fused layers and prompt length, and neighbours.
CONFIGS = [
    {"method": "pmf", "learning_rate": 2e-3, "n_fusion_layers": n, "n_query_prompts": m}
    for n, m in ((2, 4), (1, 4), (3, 4), (2, 8))
]
TEXT_LENGTH, IMAGE_SIZE, BATCH = 16, 84, 32


def ours(folder: Path, name: str, epochs: int) -> tuple[float, dict[str, float], list[float]]:
    """Run the search; return its wall seconds, their parts, and the accuracies by configuration."""
    from search import SearchConfig, run_search
    from spaces import Space, register_space
    from spaces.base import SPACES

    if "benchmark" not in SPACES:
        register_space(
            Space(
                "benchmark",
                "the configurations of this benchmark",
                lambda trial, _: CONFIGS[trial.suggest_categorical("index", list(range(len(CONFIGS))))],
                lambda _: [{"index": i} for i in range(len(CONFIGS))],
            )
        )
    uri = f"sqlite:///{folder}/mlflow.db"
    started = time.perf_counter()
    result = run_search(
        SearchConfig(
            space="benchmark",
            num_samples=len(CONFIGS),
            epochs=epochs,
            batch_size=BATCH,
            text_length=TEXT_LENGTH,
            image_size=IMAGE_SIZE,
            name=name,
            storage_path=str(folder / "runs"),
            tracking_uri=uri,
        )
    )
    wall = time.perf_counter() - started

    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    parent = client.get_run(result.parent_run_id)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{result.parent_run_id}'"
    )
    spent = dict.fromkeys(("setup and features", "training", "validation"), 0.0)
    accuracies = {}
    for child in children:
        run_id = child.info.run_id
        spent["setup and features"] += child.data.metrics["setup_seconds"]
        for part, metric in (("training", "epoch_seconds"), ("validation", "validation_seconds")):
            spent[part] += sum(point.value for point in client.get_metric_history(run_id, metric))
        key = (int(child.data.params["n_fusion_layers"]), int(child.data.params["n_query_prompts"]))
        accuracies[key] = child.data.metrics["accuracy"]
    at_once = min(os.cpu_count() or 1, len(CONFIGS))
    shares = {part: seconds / at_once for part, seconds in spent.items()}
    shares["start, tracking, test scoring, waiting"] = wall - sum(shares.values())
    ordered = [accuracies[(c["n_fusion_layers"], c["n_query_prompts"])] for c in CONFIGS]
    return wall, shares, ordered


def plain(folder: Path, epochs: int) -> tuple[float, list[float]]:
    """Run the plain script; return its wall seconds and accuracies."""
    started = time.perf_counter()
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, Any]) -> None:
        import torch

        from trainables.configuration import split_config
        from trainables.data import Loader, open_dataset, prepare
        from trainables.methods import MethodContext, build_method
        from trainables.step.setting import TrainingSetting
        from trainables.towers import load_tower, resolve_encoder
        from trainables.trial.trainer import Trainer

        torch.set_num_threads(1)
        chosen = CONFIGS[config["index"]]
        sources = {
            "text": resolve_encoder("text", "minilm"),
            "image": resolve_encoder("image", "dinov2-small"),
        }
        data = prepare(open_dataset("openclipart"), sources, text_length=TEXT_LENGTH, image_size=IMAGE_SIZE)
        towers = {modality: load_tower(source) for modality, source in sources.items()}
        torch.manual_seed(0)
        name, fields = split_config(chosen)
        setting = TrainingSetting(batch_size=BATCH, text_length=TEXT_LENGTH, image_size=IMAGE_SIZE)
        method = build_method(name, fields, MethodContext(towers, data.task.output_size, setting.sizes))
        device = torch.device("cpu")
        loaders = {
            split: Loader(data.split(split), tuple(sources), BATCH, device)
            for split in ("train", "validation")
        }
        trainer = Trainer(method, setting, chosen["learning_rate"], epochs, loaders["train"], 0, data.task)
        for _ in range(epochs):
            trainer.train_epoch()
            tune.report(trainer.evaluate(loaders["validation"]))

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    searcher = OptunaSearch(
        {"index": tune.choice(list(range(len(CONFIGS))))},
        metric="accuracy",
        mode="max",
        points_to_evaluate=[{"index": i} for i in range(len(CONFIGS))],
    )
    grid = tune.Tuner(
        tune.with_resources(train, {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=len(CONFIGS), max_concurrent_trials=os.cpu_count()
        ),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder / "plain"), verbose=0),
    ).fit()
    wall = time.perf_counter() - started
    ray.shutdown()
    by_index = {r.config["index"]: r.metrics["accuracy"] for r in grid}
    return wall, [by_index[i] for i in range(len(CONFIGS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_overhead.json"))
    options = parser.parse_args()
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["PARETOFUSE_CACHE"] = str(folder / "cache")
        cold, cold_shares, accuracies = ours(folder, "cold", options.epochs)
        warm, warm_shares, _ = ours(folder, "warm", options.epochs)
        # The plain script runs last, so that it finds the prepared data and the converted encoder, which are
        # not part of the comparison.
        plain_wall, plain_accuracies = plain(folder, options.epochs)
    rows = [
        {"what": "plain Ray Tune + OptunaSearch", "seconds": plain_wall, "accuracies": plain_accuracies},
        {"what": "ours, empty cache", "seconds": cold, "accuracies": accuracies, "shares": cold_shares},
        {"what": "ours, second search", "seconds": warm, "shares": warm_shares},
    ]
    for row in rows:
        row["ratio"] = plain_wall / row["seconds"]
        print(f"{row['what']:32} {row['seconds']:7.1f} s   {row['ratio']:.2f} x")
        for part, seconds in row.get("shares", {}).items():
            print(f"    {part:40} {seconds:7.1f} s")
        if "accuracies" in row:
            print("    validation accuracy", " ".join(f"{value:.3f}" for value in row["accuracies"]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "platform": platform.platform()}
    document = {"configs": CONFIGS, "epochs": options.epochs, "machine": machine, "rows": rows}
    options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
