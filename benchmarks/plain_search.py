"""A plain Ray Tune + OptunaSearch script: what ``search_overhead.py`` compares searches with.

This file is frozen: nothing but its precision may change. It is a simple first version of a search, as
somebody writes it who knows Ray Tune, Optuna and PyTorch. A function trainable loads the encoders in every
trial, runs all of their layers in every step and every validation, pads all texts to the same length, and
validates in batches of the training's size. ``bf16`` is PyTorch's autocast; the weights stay in fp32.

It uses this project's encoders, methods and data files, because both sides must train the same model on the
same data. It uses none of the project's loops, loaders, caches or settings, so that it does not get faster
with them. Seeds are those of a search with ``--seed 0``: both sides draw the same initial weights and see
the rows in the same order.

    python benchmarks/plain_search.py --precision fp32 --out FILE
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor
from torch.nn import functional as F

from trainables.configuration import split_config
from trainables.data import open_dataset, prepare
from trainables.data.prepared import PreparedSplit
from trainables.methods import FusionMethod, MethodContext, build_method
from trainables.seeds import derive_seed
from trainables.towers import InputSizes, load_tower, resolve_encoder

#: The configurations of the trials: the paper's number of fused layers and prompt length, and neighbours.
CONFIGS = [
    {"method": "pmf", "learning_rate": 2e-3, "n_fusion_layers": n, "n_query_prompts": m}
    for n, m in ((2, 4), (1, 4), (3, 4), (2, 8))
]
TEXT_LENGTH, IMAGE_SIZE, BATCH, WEIGHT_DECAY = 16, 84, 32, 1e-4
SEED = 0


def batches(split: PreparedSplit, order: Tensor) -> Iterator[tuple[dict[str, dict[str, Tensor]], Tensor]]:
    """Yield the inputs and labels of a split's rows in the given order."""
    for rows in order.split(BATCH):
        yield {modality: split.inputs(modality, rows) for modality in ("text", "image")}, split.labels[rows]


def train_epoch(
    method: FusionMethod,
    split: PreparedSplit,
    epoch: int,
    precision: str,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Train for one epoch."""
    order = torch.Generator().manual_seed(derive_seed(SEED, "rows", epoch))
    torch.manual_seed(derive_seed(SEED, "dropout", epoch))
    method.train()
    for inputs, labels in batches(split, torch.randperm(len(split), generator=order)):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = method(inputs)
        loss = F.cross_entropy(output.outputs.float(), labels)
        if output.aux_loss is not None:
            loss = loss + output.aux_loss
        loss.backward()
        optimizer.step()
        schedule.step()


def validate(method: FusionMethod, split: PreparedSplit, precision: str) -> float:
    """Return the accuracy on a split."""
    method.eval()
    correct = 0
    with torch.inference_mode():
        for inputs, labels in batches(split, torch.arange(len(split))):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = method(inputs).outputs
            correct += int((outputs.argmax(dim=1) == labels).sum())
    return correct / len(split)


def trial(
    config: dict[str, Any], precision: str, epochs: int, dataset: str, encoders: dict[str, str], cores: int
) -> Iterator[dict[str, float]]:
    """Train a configuration; yield the accuracy of each epoch, and the seconds of each part so far."""
    started = time.perf_counter()
    torch.set_num_threads(cores)
    sources = {modality: resolve_encoder(modality, name) for modality, name in encoders.items()}
    opened = open_dataset(dataset)
    data = prepare(opened, sources, InputSizes(text_length=TEXT_LENGTH, image_size=IMAGE_SIZE))
    train, validation = data.split("train"), data.split("validation")
    towers = {modality: load_tower(source, attention="eager") for modality, source in sources.items()}
    torch.manual_seed(SEED)
    name, fields = split_config(config)
    method = build_method(
        name,
        fields,
        MethodContext(
            towers,
            opened.task.output_size,
            InputSizes(TEXT_LENGTH, IMAGE_SIZE),
            encoder_dropout=True,
            gradient_checkpointing=False,
            skip_unused=False,
            frozen_matrices=None,
        ),
    )
    optimizer = torch.optim.AdamW(
        method.trainable_parameters(), lr=config["learning_rate"], weight_decay=WEIGHT_DECAY
    )
    steps = epochs * math.ceil(len(train) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))
    )
    seconds = {"load_seconds": time.perf_counter() - started, "train_seconds": 0.0, "validate_seconds": 0.0}
    for epoch in range(epochs):
        started = time.perf_counter()
        train_epoch(method, train, epoch, precision, optimizer, schedule)
        trained = time.perf_counter()
        accuracy = validate(method, validation, precision)
        seconds["train_seconds"] += trained - started
        seconds["validate_seconds"] += time.perf_counter() - trained
        yield {"accuracy": accuracy, **seconds}


def search(
    folder: str, precision: str, epochs: int, configs: int, dataset: str, encoders: dict[str, str]
) -> dict[str, Any]:
    """Search in a Ray of its own; return the results by configuration and the seconds of each part."""
    at_once = min(os.cpu_count() or 1, configs)
    cores = (os.cpu_count() or 1) // at_once

    def train(config: dict[str, Any]) -> None:
        for metrics in trial(CONFIGS[config["index"]], precision, epochs, dataset, encoders, cores):
            tune.report(metrics)

    started = time.perf_counter()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ready = time.perf_counter()
    searcher = OptunaSearch(
        {"index": tune.choice(list(range(configs)))},
        metric="accuracy",
        mode="max",
        points_to_evaluate=[{"index": index} for index in range(configs)],
    )
    grid = tune.Tuner(
        tune.with_resources(train, {"CPU": cores}),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=configs, max_concurrent_trials=at_once),
        run_config=tune.RunConfig(name="plain", storage_path=folder, verbose=0),
    ).fit()
    searched = time.perf_counter()
    ray.shutdown()
    ended = time.perf_counter()
    if grid.errors:
        raise grid.errors[0]
    results = sorted((result.metrics for result in grid), key=lambda metrics: metrics["config"]["index"])
    shares = {
        part: sum(metrics[name] for metrics in results) / at_once
        for part, name in (
            ("building", "load_seconds"),
            ("training", "train_seconds"),
            ("validation", "validate_seconds"),
        )
    }
    return {
        "accuracies": [metrics["accuracy"] for metrics in results],
        "epochs": [metrics["training_iteration"] for metrics in results],
        "seconds": {
            "start of Ray": ready - started,
            **shares,
            "waiting": searched - ready - sum(shares.values()),
            "end of Ray": ended - searched,
        },
    }


def main() -> None:
    """Search, and write the results to a file."""
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--configs", type=int, default=len(CONFIGS), help="the first ones of CONFIGS")
    parser.add_argument("--dataset", default="openclipart")
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--image-encoder", default="dinov2-small")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    encoders = {"text": options.text_encoder, "image": options.image_encoder}
    with tempfile.TemporaryDirectory() as folder:
        results = search(
            folder, options.precision, options.epochs, options.configs, options.dataset, encoders
        )
    options.out.write_text(json.dumps({"began": began, **results, "ended": time.time()}))


if __name__ == "__main__":
    main()
