r"""Trains many configurations of a space and records every epoch in a table that can replace training.

``python search.py --replay FILE`` reads the table. The configurations are the space's first points, its ends
and then random ones, with equally many of each method if the space has several. A recorded configuration is
not trained again unless its training failed, so the script may be stopped and restarted at any time: ``FILE``
with the ending ``.jsonl`` is the journal of what is done. With ``--budget``, what would need more memory is
left out, as in a search.

    python benchmarks/record_table.py --space pmf_nas --trials 120 --epochs 8 --out FILE
    python benchmarks/record_table.py --space pmf_nas --trials 150 --epochs 3 --dataset openclipart_match \
        --rows all --precision fp32 --budget 300 --out benchmarks/tables/pmf_nas_match.parquet

The second table takes some nine hours of a core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import platform
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kept import kept_journal, tell_if_emulated

from trainables.step.precision import NATIVE, PRECISIONS
from trainables.units import MIB

#: Texts are short, images small and by default rows few, so that a few hundred trainings take an hour or two
#: on two cores.
TEXT_LENGTH, IMAGE_SIZE, BATCH = 16, 56, 16
#: Number of rows that are drawn at random from the splits.
ROWS = {"train": 192, "validation": 240, "test": 240}
#: Options on which the results of a configuration depend.
JOURNAL_SETTINGS = ("space", "dataset", "rows", "epochs", "precision", "budget", "seed")
#: For each configuration to record, how many are drawn at most to find one within the budget.
DRAWS = 100
ENCODERS = {"text": "minilm", "image": "dinov2-small"}
DATASET = "openclipart"


def subset(seed: int, rows: Mapping[str, int] = ROWS, name: str = DATASET) -> Path:
    """Return a folder with some rows of each split of a dataset."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trainables.cache import cache_dir
    from trainables.data import open_dataset

    folder = cache_dir() / "record_table" / f"{name}-{seed}-{'-'.join(map(str, rows.values()))}"
    folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(name)
    columns = [modality.column for modality in dataset.modalities.values()]
    columns += [dataset.label] if dataset.task.has_labels else []
    for number, (split, count) in enumerate(rows.items()):
        table = pa.Table.from_batches(list(dataset.batches(split, columns)))
        chosen = sorted(random.Random(seed * 10 + number).sample(range(table.num_rows), count))
        some = table.take(chosen).replace_schema_metadata(dict(dataset.metadata))
        pq.write_table(some, folder / f"{split}.parquet")
    return folder


def candidates(space: Any, context: Any, seed: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield pairs of parameter values and configuration; every configuration occurs once."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    points = list(space.first_points(context))
    points += [member.values for end in ("low", "high") for member in space.ends(end, context)]
    methods = [part.method for part in space.parts()] if space.parts else []
    seen: set[str] = set()
    number = 0
    while True:
        if points:
            study.enqueue_trial(points.pop(0))
        elif methods:
            study.enqueue_trial({"method": methods[number % len(methods)]})
            number += 1
        trial = study.ask()
        config = space.sample(trial, context)
        key = json.dumps(config, sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield trial.params, config


def train(spec: Any, seed: int, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a configuration and return the results of each epoch."""
    from trainables.trial.assignment import Assignment
    from trainables.trial.run import TrialRun

    run = TrialRun(spec, Assignment(config=config, seed=seed))
    rows = []
    for _ in range(spec.epochs):
        result = run.epoch()
        rows.append({name: float(value) for name, value in result.items()})
    return rows


def work(spec: Any, seed: int, jobs: Any, done: Any) -> None:
    """Train the configurations in a queue until it gives None."""
    import torch

    torch.set_num_threads(1)
    for number, params, config in iter(jobs.get, None):
        started = time.perf_counter()
        try:
            rows = train(spec, seed, config)
        except Exception as error:  # a failed trial is recorded without rows
            rows = []
            print(f"{number}: {type(error).__name__}: {error}", flush=True)
        done.put((number, params, config, rows, time.perf_counter() - started))


def main() -> None:
    """Train the configurations that are not recorded yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--dataset", default=DATASET, help="an included dataset")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--rows", default=",".join(map(str, ROWS.values())), help=f"of the splits {', '.join(ROWS)}, or all"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default=NATIVE, help="of the trainings")
    parser.add_argument("--budget", type=float, metavar="MIB", help="of a step's memory; default: no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tell_if_emulated(options.precision)
    budget = math.inf if options.budget is None else options.budget * MIB

    import pyarrow as pa
    import pyarrow.parquet as pq

    from spaces import SpaceContext, get_space
    from trainables.data import open_dataset, prepare
    from trainables.memory.memo import PredictionMemo
    from trainables.memory.predictor import MemoryPredictor
    from trainables.step.setting import TrainingSetting
    from trainables.towers import InputSizes, resolve_encoders
    from trainables.trial.workbench import TrialSpec

    place = options.dataset
    if options.rows != "all":
        counts = dict(zip(ROWS, map(int, options.rows.split(",")), strict=True))
        place = str(subset(options.seed, counts, options.dataset))
    dataset = open_dataset(place)
    encoders = resolve_encoders(ENCODERS)
    setting = TrainingSetting(
        target="cpu",  # which trains
        batch_size=BATCH,
        text_length=TEXT_LENGTH,
        image_size=IMAGE_SIZE,
        precision=options.precision,
    )
    context = SpaceContext.of(encoders)
    predictor = MemoryPredictor(encoders, dataset.task, setting, memo=PredictionMemo())
    data = prepare(dataset, encoders, InputSizes(text_length=TEXT_LENGTH, image_size=IMAGE_SIZE))
    spec = TrialSpec(
        dataset=place,
        prepared=data.key,
        task=dataset.task.to_dict(),
        encoders={modality: encoder.address for modality, encoder in encoders.items()},
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        kinds={modality: encoder.kind for modality, encoder in encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=setting,
        epochs=options.epochs,
        prefixes={modality: tuple(range(context.depths[modality] + 1)) for modality in encoders},
    )

    spawn = multiprocessing.get_context("spawn")
    jobs, done = spawn.Queue(), spawn.Queue()
    drawn = candidates(get_space(options.space), context, options.seed)
    tried = itertools.islice(drawn, options.trials * DRAWS)
    fitting = (pair for pair in tried if predictor.predict_configuration(pair[1]).total <= budget)
    chosen = list(itertools.islice(fitting, options.trials))
    if len(chosen) < options.trials:
        parser.error(f"{len(chosen)} of {options.trials * DRAWS} configurations fit {options.budget} MiB")

    options.out.parent.mkdir(parents=True, exist_ok=True)
    journal = options.out.with_suffix(".jsonl")
    entries = kept_journal(parser, journal, {name: getattr(options, name) for name in JOURNAL_SETTINGS})
    recorded = {json.dumps(entry["config"], sort_keys=True): entry for entry in entries if entry["epochs"]}
    missing = [
        (number, params, config)
        for number, (params, config) in enumerate(chosen)
        if json.dumps(config, sort_keys=True) not in recorded
    ]
    for job in missing:
        jobs.put(job)
    workers = [
        spawn.Process(target=work, args=(spec, options.seed, jobs, done)) for _ in range(options.workers)
    ]
    for worker in workers:
        jobs.put(None)
        worker.start()
    started = time.perf_counter()
    with journal.open("a") as file:
        for count in range(len(missing)):
            number, params, config, rows, seconds = done.get()
            entry = {"number": number, "params": params, "config": config, "epochs": rows}
            file.write(json.dumps(entry) + "\n")
            file.flush()
            recorded[json.dumps(config, sort_keys=True)] = entry
            best = max((row["accuracy"] for row in rows), default=float("nan"))
            left = (time.perf_counter() - started) / (count + 1) * (len(missing) - count - 1)
            print(
                f"{count + 1}/{len(missing)} {config['method']}: {seconds:.0f} s, best accuracy {best:.3f}, "
                f"{left / 60:.0f} min left",
                flush=True,
            )
    for worker in workers:
        worker.join()

    rows = []
    for number, (params, config) in enumerate(chosen):
        report = predictor.predict_configuration(config)
        for epoch in recorded[json.dumps(config, sort_keys=True)]["epochs"]:
            known = {
                "number": number,
                "params": json.dumps(params),
                "config": json.dumps(config),
                **{f"memory.{name}": size for name, size in asdict(report).items()},
            }
            rows.append({**known, **epoch})
    described = {
        "space": options.space,
        "dataset": options.dataset,
        "rows": {split: dataset.count(split) for split in ROWS},
        "dataset_fingerprint": dataset.fingerprint,
        **dataset.task.to_record(dataset.task.guess(dataset.labels("validation"))),
        "encoders": spec.encoders,
        "pooling": spec.pooling,
        "depths": dict(context.depths),
        "kinds": dict(context.kinds),
        "widths": dict(context.widths),
        "epochs": options.epochs,
        "budget": options.budget,
        "seed": options.seed,
        "setting": asdict(setting),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": platform.platform(),
    }
    shared = set.intersection(*(set(row) for row in rows))  # an older journal may lack a metric
    rows = [{name: value for name, value in row.items() if name in shared} for row in rows]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"paretofuse": json.dumps(described)})
    pq.write_table(table, options.out, compression="zstd")
    print(
        f"{len(chosen)} configurations, {len(rows)} epochs, {options.out.stat().st_size / 1024:.0f} KiB: "
        f"{options.out}"
    )


if __name__ == "__main__":
    main()
