"""The time that is saved if trials share devices according to their memory.

The script draws members of two spaces at random and predicts their memory in a search (bert-base, vit-base,
batch 32, 128 tokens, 224 pixels, fp32, eager attention, cached prefix). It runs 20 of each space through Ray
Tune on two logical GPUs of 24 GiB, twice: packed, with the margin of a device without calibration, and with
one trial per device. Trials only sleep, so the results show the placement and not how much trials on one real
device slow each other down. They sleep for a time proportional to their predicted memory. This case favours
packing less, because the trials that fill a device run longest.

The makespan is the time from the start of the first trial to the end of the last. It includes the starts of
worker processes in between, which cost more with packing. With one trial per device, every trial reuses the
process of the previous one. With packing, only a trial with an equal share can do so, and other shares are
idle while processes start. This matters more for short trials; here they take less than half a minute on
average.

The same is simulated for 1,000 trials drawn with replacement, without starting processes: as the program
places trials, with trials of equal length, with coarser and finer shares, and without the limit that
``Placement.full`` sets to the number of waiting trials.

    python benchmarks/packing.py [--json FILE]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import platform
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.search import Searcher
from rich.console import Console
from rich.table import Table

from search.nodes import find_nodes
from search.placement import STEPS, Placement, place
from spaces import SpaceContext, get_space
from trainables.memory.calibration import needed_on_gpu
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

GIB = 2**30
DEVICES, DEVICE_MEMORY = 2, 24 * GIB
SETTING = TrainingSetting(batch_size=32, text_length=128, image_size=224)
CLASSES = 101
SPACES = ("all_methods", "pmf_nas")


def draw(space: str, count: int, seed: int = 0) -> list[int]:
    """Return the predicted memory of random members of a space, in bytes."""
    encoders = {
        modality: resolve_encoder(modality, f"arch:{name}")
        for modality, name in (("text", "bert-base"), ("image", "vit-base"))
    }
    predictor = MemoryPredictor(encoders, get_task(DEFAULT_TASK).of_size(CLASSES), SETTING)
    context = SpaceContext.of(encoders)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    members = [get_space(space).sample(study.ask(), context) for _ in range(count)]
    return [predictor.predict_as_run(member, cached=True, target="cuda").memory for member in members]


class Sleeper(tune.Trainable):
    """A trial that sleeps, and records its device and times."""

    def setup(self, config: dict[str, Any]) -> None:
        """Store the configuration."""
        self.config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Store the configuration of the next trial in the same process."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Sleep."""
        start = time.time()
        time.sleep(self.config["seconds"])
        context = ray.get_runtime_context()
        record = {
            "device": ray.get_gpu_ids()[0],
            "share": context.get_assigned_resources()["GPU"],
            "worker": os.getpid(),
            "start": start,
            "end": time.time(),
        }
        Path(self.config["folder"], f"{self.trial_id}.json").write_text(json.dumps(record))
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: there is nothing to save."""

    def load_checkpoint(self, checkpoint: str) -> None:
        """Do nothing: there is nothing to load."""


class Listed(Searcher):
    """Hands out a list of trials as a search does: the next one as soon as there is space on a device."""

    def __init__(self, configs: list[dict[str, Any]], placement: Placement) -> None:
        super().__init__()
        self.configs = configs[::-1]
        self.placement = placement
        self.open: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial, or None while the cluster is full."""
        if not self.configs:
            return Searcher.FINISHED
        if self.placement.full(self.placement.of(config["needed"]) for config in self.open.values()):
            return None
        self.open[trial_id] = self.configs.pop()
        return self.open[trial_id]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Release the trial's share of a device."""
        del self.open[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: there is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: there is nothing to restore."""


def run(predicted: Sequence[int], seconds_per_gib: float, *, packing: bool) -> dict[str, Any]:
    """Run the trials through Ray Tune; return makespan and use of the devices."""
    placement = place(find_nodes(DEVICE_MEMORY), len(predicted), packing=packing)
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder, "records")
        records.mkdir()
        configs = [
            {
                "needed": needed_on_gpu(size, None),
                "seconds": seconds_per_gib * size / GIB,
                "folder": str(records),
            }
            for size in predicted
        ]
        tune.Tuner(
            tune.with_resources(Sleeper, lambda config: placement.of(config["needed"]).request()),
            tune_config=tune.TuneConfig(
                search_alg=Listed(configs, placement),
                num_samples=len(configs),
                max_concurrent_trials=placement.concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        done = [json.loads(path.read_text()) for path in records.iterdir()]
    if len(done) != len(predicted):
        raise RuntimeError(f"{len(predicted) - len(done)} trials did not run")
    makespan = max(record["end"] for record in done) - min(record["start"] for record in done)
    devices = defaultdict(list)
    for record in done:
        devices[record["device"]].append(record)
    taken = [
        [other["share"] for other in on_device if other["start"] <= record["start"] < other["end"]]
        for on_device in devices.values()
        for record in on_device
    ]
    used = sum(record["share"] * (record["end"] - record["start"]) for record in done)
    return {
        "makespan": makespan,
        "fill": used / (DEVICES * makespan),
        "highest_fill": max(sum(shares) for shares in taken),
        "most_on_a_device": max(len(shares) for shares in taken),
        "worker_processes": len({record["worker"] for record in done}),
    }


def simulate(shares: Sequence[float], seconds: Sequence[float], *, waiting: bool = False) -> dict[str, float]:
    """Place trials in order on the fullest device that has enough space; return makespan and use.

    Args:
        shares: Share of a device that each trial needs.
        seconds: Length of each trial.
        waiting: Whether all trials wait from the start, so that any trial that fits may start next.
    """
    room = [1.0] * DEVICES
    todo = list(range(len(shares)))[::-1]
    queue: list[int] = []
    running: list[tuple[float, int, int]] = []  # end, device, trial
    now = 0.0
    while todo or queue or running:
        taken = sum(shares[trial] for trial in queue) + DEVICES - sum(room)
        while todo and (waiting or taken < DEVICES - 1e-6):
            queue.append(todo.pop())
            taken += shares[queue[-1]]
        for trial in list(queue):
            fitting = [device for device in range(DEVICES) if room[device] > shares[trial] - 1e-6]
            if fitting:
                device = min(fitting, key=room.__getitem__)
                room[device] -= shares[trial]
                heapq.heappush(running, (now + seconds[trial], device, trial))
                queue.remove(trial)
        now, device, trial = heapq.heappop(running)
        room[device] += shares[trial]
    used = sum(share * length for share, length in zip(shares, seconds, strict=True))
    return {"makespan": now, "fill": used / (DEVICES * now)}


def simulations(predicted: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Simulate a long list of trials, as the program places them and in other ways."""
    chooser = random.Random(0)
    drawn = [chooser.choice(predicted) for _ in range(count)]
    rows = []
    for name, steps, equal, waiting in (
        ("as it is", STEPS, False, False),
        ("trials of equal length", STEPS, True, False),
        ("shares in eighths", 8, False, False),
        ("shares in thirty-seconds", 32, False, False),
        ("any number waits", STEPS, False, True),
    ):
        seconds = [1.0 if equal else size / GIB for size in drawn]
        shares = [math.ceil(needed_on_gpu(size, None) / DEVICE_MEMORY * steps) / steps for size in drawn]
        packed = simulate(shares, seconds, waiting=waiting)
        alone = simulate([1.0] * len(drawn), seconds)
        rows.append(
            {"variant": name, "ratio": alone["makespan"] / packed["makespan"], "fill": packed["fill"]}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "packing.json"
    parser.add_argument(
        "--seconds-per-gib", type=float, default=6, help="a trial's length (default: %(default)s)"
    )
    parser.add_argument("--trials", type=int, default=40, help="through Ray Tune (default: %(default)s)")
    parser.add_argument("--simulated", type=int, default=1000, help="trials (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=default, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    members = {space: draw(space, arguments.trials) for space in SPACES}
    ray.init(
        address="local",
        num_cpus=DEVICES,
        num_gpus=DEVICES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    mixed = [size for pair in zip(*members.values(), strict=True) for size in pair][: arguments.trials]
    alone, packed = (run(mixed, arguments.seconds_per_gib, packing=packing) for packing in (False, True))
    ray.shutdown()
    simulated = {space: simulations(predicted, arguments.simulated) for space, predicted in members.items()}

    console = Console()
    size = DEVICE_MEMORY // GIB
    title = f"{arguments.trials} trials through Ray Tune, {DEVICES} logical GPUs of {size} GiB"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("makespan\ns", "mean\nfill", "highest\nfill", "most on\na device", "worker\nprocesses"):
        table.add_column(heading, justify="right")
    for name, row in (("one a device", alone), ("packed", packed)):
        table.add_row(
            name,
            f"{row['makespan']:.0f}",
            f"{row['fill']:.2f}",
            f"{row['highest_fill']:.3f}",
            str(row["most_on_a_device"]),
            str(row["worker_processes"]),
        )
    console.print(table)
    ratio = alone["makespan"] / packed["makespan"]
    console.print(f"packed, the list is done {ratio:.2f} times sooner", highlight=False)
    table = Table(title=f"{arguments.simulated} trials, simulated: ratio (mean fill)", title_justify="left")
    table.add_column("variant")
    for space in members:
        table.add_column(space, justify="right")
    for rows in zip(*simulated.values(), strict=True):
        table.add_row(rows[0]["variant"], *(f"{row['ratio']:.2f} ({row['fill']:.2f})" for row in rows))
    console.print(table)
    document = {
        "setting": SETTING.to_dict(),
        "seconds_per_gib": arguments.seconds_per_gib,
        "predicted_bytes": members,
        "measured": {"predicted_bytes": mixed, "one_a_device": alone, "packed": packed, "ratio": ratio},
        "simulated": simulated,
        "ray": ray.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
