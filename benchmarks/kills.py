"""Kills searches at random moments, resumes them, and counts lost, repeated and duplicated trials.

Each search is ``python -m search`` with its own Ray and its own MLflow database. Trials are trained for real,
with tiny encoders on the included data, or are taken from a table of recorded trials. The kills take turns:

- ``driver``: SIGKILL to the driver alone.
- ``driver and Ray``: SIGKILL to the driver and all that it has started.
- ``worker``: SIGKILL to a process that trains a trial. The search must go on by itself.
- ``raylet``, ``gcs_server``: SIGKILL to this process of Ray. The driver must end by itself.
- ``SIGTERM``, ``SIGHUP``: the signal, to the driver. It must end by itself, with exit code 143 or 129.
- ``full disk``: the disk with the results has no space left. The driver must end by itself, with exit code 2
  and a line that names the disk. Afterwards there is space again. This needs root, to mount a small disk.

After each kill that ends the driver, the search is resumed with ``--resume``. In the end it is compared with
an undisturbed search.

- Lost: a trial or epoch that was in the store after one kill and is missing or different later.
- Repeated: a finished trial that was handed out again, or a configuration that two trials have.
- Trained again: epochs that were reported before their checkpoint was written.
- Left over: processes of the search that are still there 15 seconds after the driver has ended.
- With several concurrent trials, chance decides which ends first. Learning samplers and schedulers depend on
  that order. Only searches that do not depend on it are expected to find the same front.

This does not test the death of a machine. Each event is one SQLite transaction, with a write-ahead log that
is flushed to disk (``synchronous=FULL``) before Ray Tune is told of the event.

Do not start it under ``nohup``, whose processes ignore SIGHUP.

    python benchmarks/kills.py
"""

from __future__ import annotations

import argparse
import glob
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from kept import kept_document
from mlflow.tracking import MlflowClient

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord, canonical
from search.records.status import Status
from search.records.store import SearchStore
from search.replay import ReplayTable
from trainables.testing.tiny import saved_encoders


@dataclass(frozen=True)
class Variant:
    """A kind of search.

    Attributes:
        trained: Whether trials are trained, or else taken from a table.
        sampler: The sampler.
        scheduler: The scheduler.
        at_once: Number of concurrent trials.
        same: Whether an interrupted search must find the same front.
    """

    trained: bool
    sampler: str
    scheduler: str
    at_once: int
    same: bool

    def __str__(self) -> str:
        return f"{'trained' if self.trained else 'replayed'} {self.sampler}/{self.scheduler}"


VARIANTS = (
    Variant(False, "random", "none", 4, True),
    Variant(False, "tpe", "none", 1, True),
    Variant(False, "tpe", "pareto_asha", 4, False),
    Variant(True, "random", "none", 2, True),
    Variant(True, "tpe", "pareto_asha", 2, False),
)
VICTIMS = ("driver", "worker", "driver and Ray", "SIGTERM", "raylet", "SIGHUP", "gcs_server", "full disk")
#: Exit codes with which a driver ends by itself.
CODES = {"SIGTERM": (143,), "SIGHUP": (129,), "raylet": (1,), "gcs_server": (1,), "full disk": (2,)}
PATIENCE = 180  # seconds within which such a driver must end
LINGERING = 15  # seconds within which all processes of a search must be gone
DISK = 64  # MiB


@dataclass
class Counts:
    """The outcome of a search that was killed repeatedly."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    trained_again: int = 0
    hung: int = 0
    left_over: int = 0
    tracebacks: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    slowest_end: float = 0.0


def start(settings: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
    """Start a search's process and write its output to a file."""
    options = [x for name, value in settings.items() for x in (f"--{name.replace('_', '-')}", str(value))]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "search", *options], stdout=file, stderr=file, start_new_session=True
        )


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return all processes that a driver has started, including those of Ray."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(members: list[psutil.Process]) -> None:
    """Kill processes, and wait until they have ended."""
    for member in members:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(members, timeout=30)


def is_worker(member: psutil.Process) -> bool:
    """Return whether a process runs trials."""
    try:
        return "Trial" in " ".join(member.cmdline())
    except psutil.Error:
        return False


def strike(
    victim: str, process: subprocess.Popen[bytes], disk: Path, log: Path, counts: Counts, draw: random.Random
) -> bool:
    """Do to a search what a kind of victim names; return whether its driver has ended."""
    others = family(process)
    driver = psutil.Process(process.pid)
    counts.kills[victim] += 1
    if victim == "worker":
        workers = [member for member in others if is_worker(member)]
        kill([draw.choice(workers)] if workers else [])
        return False
    if victim == "driver":
        kill([driver])
    elif victim == "driver and Ray":
        kill([driver, *others])
    else:
        if victim in ("SIGTERM", "SIGHUP"):
            driver.send_signal(getattr(signal, victim))
        elif victim == "full disk":
            fill(disk)
        else:
            kill([member for member in others if victim in member.name()])
        watch(victim, process, log, counts)
    kill_what_is_left(others, counts)
    (disk / "filling").unlink(missing_ok=True)
    process.wait()
    return True


def watch(victim: str, process: subprocess.Popen[bytes], log: Path, counts: Counts) -> None:
    """Wait until a driver ends by itself, and count how it did."""
    began = time.monotonic()
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        counts.hung += 1
        print(f"  {victim}: the driver hangs", flush=True)
        kill([psutil.Process(process.pid)])
        return
    counts.slowest_end = max(counts.slowest_end, time.monotonic() - began)
    text = log.read_text(errors="replace").strip()
    unwanted = "Traceback (most recent call last)" in text or "*** SIG" in text
    counts.tracebacks += unwanted
    if code == 0:
        counts.endings[f"{victim}: the search had ended before"] += 1
        return
    expected = "" if code in CODES[victim] else ", not expected"
    counts.endings[f"{victim}: exit code {code}{expected}"] += 1
    last = text.splitlines()[-1][:200] if text else ""
    print(
        f"  {victim}: exit code {code}{expected}{', with a traceback' if unwanted else ''}, {last}",
        flush=True,
    )


def kill_what_is_left(others: list[psutil.Process], counts: Counts) -> None:
    """Count the processes that are there 15 seconds after the end of their driver, and kill them."""
    _, left = psutil.wait_procs(others, timeout=LINGERING)
    counts.left_over += len(left)
    if left:
        names = Counter(member.name() for member in left if member.is_running())
        print(f"  left over: {dict(names)}", flush=True)
    kill(left)


def fill(disk: Path) -> None:
    """Write a file until a disk is full."""
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**12))
        except OSError:
            return


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk on a folder, if this process may; yield whether it is mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def checkpoints(folder: Path) -> set[str]:
    """Return the names of all existing checkpoints, while folders may appear and disappear."""
    return set(glob.glob("trial-*/checkpoint_*", root_dir=folder))


def wait(folder: Path, process: subprocess.Popen[bytes], more: int) -> bool:
    """Wait for a number of further checkpoints; return whether the search still runs afterwards.

    The function watches checkpoints because the store cannot be read while the search runs.
    """
    there, seen = checkpoints(folder), set[str]()
    while len(seen) < more:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
        seen |= checkpoints(folder) - there
    return True


def trials(folder: Path) -> dict[str, TrialRecord]:
    """Return the trials of a search that is not running."""
    store = SearchStore.read(folder)
    found = {name: TrialRecord.from_dict(name, *rest) for name, *rest in store.trials()}
    store.close()
    return found


def saved(record: TrialRecord, folder: Path) -> int:
    """Return the epoch of a trial's last checkpoint."""
    if record.checkpoint is None:
        return 0
    replayed = folder / record.checkpoint / "replay.json"
    if replayed.exists():
        return int(json.loads(replayed.read_text())["epoch"])
    return int(torch.load(folder / record.checkpoint / "trainer.pt", weights_only=True)["epoch"])


def compare(before: dict[str, TrialRecord], after: dict[str, TrialRecord], counts: Counts) -> None:
    """Compare the trials before and after a kill, and update the counts."""
    for name, record in before.items():
        later = after.get(name)
        had = (record.config, record.epochs)
        if later is None or (later.config, later.epochs[: len(record.epochs)]) != had:
            counts.lost += 1
        elif record.status is Status.FINISHED and (later.status, later.legs) != (record.status, record.legs):
            counts.repeated += 1


def front(records: dict[str, TrialRecord]) -> list[tuple[str, float, float]]:
    """Return configuration, memory and accuracy of each member of a search's front."""
    objectives = get_objectives(("memory", "accuracy"))
    history = History(objectives, {"memory": 1.0, "accuracy": 0.0})
    for record in records.values():
        history.add(record)
    return [(canonical(r.config), r.values["memory"], r.values["accuracy"]) for r in history.front()]


def runs_too_many(uri: str, name: str, records: dict[str, TrialRecord]) -> tuple[int, int]:
    """Return the number of duplicate and the number of missing MLflow runs of a search."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("paretofuse")
    assert experiment is not None

    def found(condition: str) -> list[Any]:
        return list(client.search_runs([experiment.experiment_id], condition, max_results=1000))

    parents = found(f"tags.`mlflow.runName` = '{name}' and tags.kind = 'search'")
    ids = Counter(
        run.data.tags["trial_id"]
        for parent in parents
        for run in found(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    )
    return len(parents) - 1 + sum(n - 1 for n in ids.values()), len(set(records) - set(ids))


def settings_of(variant: Variant, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a search."""
    common = {
        "epochs": options.epochs,
        "num_samples": options.trials,
        "max_concurrent": variant.at_once,
        "sampler": variant.sampler,
        "scheduler": variant.scheduler,
        "seed": options.seed,
    }
    if not variant.trained:
        table = ReplayTable.read(options.table)
        recorded = {"space": table.space, "target": table.setting.target}
        return {**common, **recorded, "replay": options.table.resolve()}
    encoders = saved_encoders()
    named = {"text_encoder": encoders["bert"], "image_encoder": encoders["vit"], "image_size": 32}
    return {**common, **named, "space": "pmf_nas", "text_length": 8, "batch_size": 64}


def search(variant: Variant, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one undisturbed search and one that is killed; return their comparison."""
    with small_disk(place / "disk") as mounted:
        return _search(variant, place, mounted, options)


def _search(variant: Variant, place: Path, mounted: bool, options: argparse.Namespace) -> dict[str, Any]:
    disk, uri, log = place / "disk", f"sqlite:///{place}/mlflow.db", place / "log"
    storage = disk / "runs"
    settings = {**settings_of(variant, options), "storage_path": storage, "tracking_uri": uri}
    if (code := start({**settings, "name": "whole"}, log).wait()) != 0:
        raise SystemExit(f"the undisturbed search ended with exit code {code}: {log.read_text()}")

    draw = random.Random(f"{options.seed} {variant}")
    counts, before, folder = Counts(), dict[str, TrialRecord](), storage / "killed"
    victims = itertools.cycle(victim for victim in VICTIMS if mounted or victim != "full disk")
    # The search must still be running at every kill. It runs on for a dozen seconds after the death of the
    # raylet, and halving skips half of the epochs or more.
    spacing = options.trials * options.epochs // (options.kills * (2 if variant.scheduler == "none" else 8))
    slow = {} if variant.trained else {"replay_seconds": options.seconds}
    process = start({**settings, **slow, "name": "killed"}, log)
    while counts.kills.total() < options.kills:
        if not wait(folder, process, draw.randint(1, max(1, spacing))):
            break
        time.sleep(draw.uniform(0, 2 * options.seconds))
        victim = next(victims)
        if not strike(victim, process, disk, log, counts, draw):
            continue
        now = trials(folder)
        compare(before, now, counts)
        running = [record for record in now.values() if record.status is Status.RUNNING]
        counts.trained_again += sum(len(record.epochs) - saved(record, folder) for record in running)
        ended = Counter(str(record.status) for record in now.values())
        print(f"  {variant}: {victim}, {dict(ended)}", flush=True)
        before = now
        process = start({"resume": folder}, log)
    others = family(process)
    if (code := process.wait()) != 0:
        raise SystemExit(f"the killed search ended with exit code {code}: {log.read_text()}")
    kill_what_is_left(others, counts)

    after, undisturbed = trials(folder), trials(storage / "whole")
    compare(before, after, counts)
    configs = [canonical(record.config) for record in after.values()]
    counts.repeated += len(configs) - len(set(configs))
    twice, missing = runs_too_many(uri, "killed", after)
    document: dict[str, Any] = {
        "trials": len(after),
        "kills": counts.kills.total(),
        "kills_by_kind": dict(counts.kills),
        "trials_lost": counts.lost,
        "trials_missing": options.trials - len(after),
        "trials_repeated": counts.repeated,
        "epochs_trained_again": counts.trained_again,
        "mlflow_runs_doubled": twice,
        "mlflow_runs_missing": missing,
        "processes_left_over": counts.left_over,
        "tracebacks": counts.tracebacks,
        "legs": sum(record.legs for record in after.values()),
        "drivers_that_hung": counts.hung,
        "slowest_end_seconds": round(counts.slowest_end, 1),
        "how_drivers_ended": dict(counts.endings),
    }
    if variant.same:
        document["same_configurations"] = configs == [canonical(r.config) for r in undisturbed.values()]
        document["same_front"] = front(after) == front(undisturbed)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path("benchmarks/tables/pmf_nas.parquet"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20, help="kills of each search")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long an epoch takes")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one search, such as 'trained random/none'")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kills.json"))
    options = parser.parse_args()

    settings = {
        "table": options.table.name,
        "seconds_an_epoch": options.seconds,
        "epochs": options.epochs,
        "seed": options.seed,
    }
    document: dict[str, Any] = {**settings, "searches": {}}
    if options.only:
        document |= kept_document(parser, options.out, settings)
    for variant in VARIANTS:
        name = str(variant)
        if options.only not in (None, name):
            continue
        print(f"{name}, {variant.at_once} at once", flush=True)
        with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as place:
            document["searches"][name] = search(variant, Path(place), options)
        for key, value in document["searches"][name].items():
            print(f"  {key.replace('_', ' ')}: {value}", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
