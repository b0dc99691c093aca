"""What inherited weights are worth: finalists of a one-shot search, trained from them and from new weights.

A one-shot search trains a supernet and chooses finalists. Each of them is then trained in every variant: from
the weights that it inherits, or from new ones whose head starts as the program's default has it, for some
epochs. The table has a row for each variant: the first metric of the dataset's task on the validation split
before the first step and after the last one, and on the test split, and the seconds of one core that the
training takes, each as mean over the finalists.

    python benchmarks/inherited.py [--space wander] [--finalists 6] [--variants inherited:3,new:5,inherited:5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kept import kept_document, step_precision
from worth import write

OUT = Path("benchmarks/results/inherited.json")
#: A variant: the weights that it starts from, and the epochs.
VARIANT = re.compile(r"(inherited|new):[1-9]\d*")
#: What a variant's row shows.
SHOWN = ("start", "validation", "test", "seconds")


@dataclass(frozen=True)
class Job:
    """A training of a finalist.

    Attributes:
        variant: How it is trained, such as ``inherited:3``: the weights that it starts from, and the epochs.
        spec: Settings of the trial.
        config: Configuration of the finalist.
        seed: Seed of the training.
        supernet: Folder of the supernet's checkpoint.
    """

    variant: str
    spec: Any
    config: Mapping[str, Any]
    seed: int
    supernet: Path

    @property
    def weights(self) -> str:
        """The weights that it starts from: ``inherited`` or ``new``."""
        return self.variant.partition(":")[0]

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return int(self.variant.partition(":")[2])


def jobs_of(folder: Path, variants: list[str]) -> list[Job]:
    """Return the trainings of all finalists that a one-shot search has chosen, in all variants.

    Args:
        folder: The search's folder.
        variants: See ``Job.variant``.
    """
    from rich.console import Console

    from search.config import SearchConfig
    from search.records.store import SearchStore
    from search.setup import look_up

    store = SearchStore.read(folder)
    checkpoint = store.fact("supernet")["document"]["checkpoint"]
    finalists = store.fact("finals")
    store.close()
    found = look_up(SearchConfig.from_json((folder / "config.json").read_text()))
    space, backend, seed = found.space, found.backend, found.config.search.seed
    spec = backend.prepare(space, Console(quiet=True)).spec
    configs = [space.at(values, backend.context).config for values in finalists]
    place = folder / checkpoint
    return [Job(variant, spec, config, seed, place) for variant in variants for config in configs]


def measure(job: Job) -> tuple[str, dict[str, float]]:
    """Train a finalist in one process; return the variant and its results, see ``SHOWN``."""
    import torch

    from trainables.data import SPLITS
    from trainables.elastic import SupernetWeights
    from trainables.trial.assignment import Assignment
    from trainables.trial.run import TrialRun

    torch.set_num_threads(1)
    inherited = SupernetWeights.load(job.supernet) if job.weights == "inherited" else None
    spec = replace(job.spec, epochs=job.epochs)
    run = TrialRun(spec, Assignment(config=job.config, seed=job.seed), inherited)
    metric = run.bench.task.metrics[0].name
    run.bench.fill(SPLITS, run.method, run.setting)
    started = time.process_time()
    run.start()
    seconds = time.process_time() - started
    found = {"start": run.evaluate("validation").metrics[metric]}
    started = time.process_time()
    epochs = [run.epoch() for _ in range(job.epochs)]
    found["seconds"] = seconds + time.process_time() - started
    found["validation"] = epochs[-1][metric]
    found["test"] = run.evaluate("test").metrics[metric]
    return job.variant, found


def table(results: Mapping[str, list[Mapping[str, float]]]) -> str:
    """Return a row of means for each variant, as a Markdown table."""
    lines = ["| weights | epochs | " + " | ".join(SHOWN) + " |", "|---" * (2 + len(SHOWN)) + "|"]
    for variant, found in results.items():
        weights, _, epochs = variant.partition(":")
        means = {name: statistics.fmean(each[name] for each in found) for name in SHOWN}
        cells = [f"{means[name]:.0f}" if name == "seconds" else f"{means[name]:.3f}" for name in SHOWN]
        lines.append("| " + " | ".join([weights, epochs, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Search, train the finalists in all variants, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="pmf_nas")
    parser.add_argument("--dataset", default="openclipart")
    parser.add_argument("--finalists", type=int, default=6)
    parser.add_argument("--subnets", type=int, default=200, help="number of subnets to evaluate")
    parser.add_argument("--variants", default="inherited:3,new:5,inherited:5")
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--image-encoder", default="dinov2-small")
    parser.add_argument("--image-size", type=int, default=56)
    parser.add_argument("--text-length", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    variants = options.variants.split(",")
    for variant in variants:
        if not VARIANT.fullmatch(variant):
            parser.error(f"--variants: {variant!r} is none; write e.g. inherited:3 or new:5")
    settings = {k: v for k, v in vars(options).items() if k not in ("out", "variants")}
    settings["precision"] = step_precision()
    document = {"results": {}, **kept_document(parser, options.out, settings), "settings": settings}

    from search.api import run_search
    from search.config import SearchConfig

    with tempfile.TemporaryDirectory() as place:
        result = run_search(
            SearchConfig(
                strategy="oneshot",
                space=options.space,
                dataset=options.dataset,
                text_encoder=options.text_encoder,
                image_encoder=options.image_encoder,
                num_samples=options.subnets,
                finalists=options.finalists,
                tau_samples=0,
                epochs=1,  # the search's own trainings only tell which subnets the finalists are
                probe=False,
                image_size=options.image_size,
                text_length=options.text_length,
                seed=options.seed,
                storage_path=place,
                tracking_uri=f"sqlite:///{place}/mlflow.db",
            )
        )
        jobs = jobs_of(Path(result.folder), variants)
        results: dict[str, list[Mapping[str, float]]] = {variant: [] for variant in variants}
        with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
            for variant, found in pool.imap_unordered(measure, jobs):
                results[variant].append(found)
                print(variant, {name: round(value, 3) for name, value in found.items()}, flush=True)
                document["results"] |= results  # of variants that are not run again, the earlier ones stay
                write(options.out, document)
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
