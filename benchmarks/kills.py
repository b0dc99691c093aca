"""Kills searches at random moments, resumes them, and counts lost, repeated and duplicated trials.

Recorded trials replace training. Everything else is real: each search is ``python search.py`` with its own
Ray, and is killed with SIGKILL ten times. The kills take turns: the driver alone; the driver and all of Ray;
Ray's raylet or its global control store, after which the living driver must end by itself. The search is then
resumed with ``--resume``. In the end it is compared with an undisturbed search.

- Lost: a trial or epoch that was in the store after one kill and is missing or different later.
- Repeated: a finished trial that was handed out again, or a configuration that two trials have.
- Redone: epochs that were reported before their checkpoint was written, so that they are trained again.
- With several concurrent trials, chance decides which ends first. Learning samplers and schedulers depend on
  that order. Only searches that do not depend on it are expected to find the same front.

This does not test the death of a machine. Each event is one SQLite transaction, with a write-ahead log that
is flushed to disk (``synchronous=FULL``) before Ray Tune is told of the event.

    python benchmarks/kills.py --table benchmarks/tables/pmf_nas.parquet
"""

from __future__ import annotations

import argparse
import glob
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from mlflow.tracking import MlflowClient

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord, canonical
from search.records.status import Status
from search.records.store import SearchStore
from search.replay import ReplayTable

#: Sampler, scheduler, concurrent trials, and whether an interrupted search must find the same front.
VARIANTS = (
    ("random", "none", 4, True),
    ("tpe", "none", 1, True),
    ("random", "pareto_asha", 4, False),
    ("tpe", "pareto_asha", 4, False),
)
VICTIMS = ("driver", "driver and Ray", "raylet", "driver", "driver and Ray", "gcs_server")
PATIENCE = 180  # seconds within which a driver that has lost its Ray must end


@dataclass
class Counts:
    """The outcome of a search that was killed repeatedly."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    redone: int = 0
    hung: int = 0
    endings: Counter[str] = field(default_factory=Counter)


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


def strike(victim: str, process: subprocess.Popen[bytes], log: Path, counts: Counts) -> None:
    """Kill the processes that a kind of victim names; afterwards end the rest of the search, too."""
    others = family(process)
    driver = psutil.Process(process.pid)
    if victim == "driver":
        kill([driver])
    elif victim == "driver and Ray":
        kill([driver, *others])
    else:
        kill([member for member in others if victim in member.name()])
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            counts.hung += 1
            print(f"  {victim} killed: the driver hangs", flush=True)
            kill([driver])
        else:
            text = log.read_text(errors="replace").strip()
            traceback = ", with a traceback" if "Traceback (most recent call last)" in text else ""
            counts.endings[f"{victim}: exit code {code}{traceback}"] += 1
            print(
                f"  {victim} killed: exit code {code}{traceback}, {text.splitlines()[-1][:200]}", flush=True
            )
    kill(others)
    process.wait()
    counts.kills[victim] += 1


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
    return int(json.loads((folder / record.checkpoint / "replay.json").read_text())["epoch"])


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


def search(
    variant: tuple[str, str, int, bool], place: Path, options: argparse.Namespace, epochs: int
) -> dict[str, Any]:
    """Run one undisturbed search and one that is killed; return their comparison."""
    sampler, scheduler, at_once, same = variant
    storage, uri = place / "runs", f"sqlite:///{place}/mlflow.db"
    settings = {
        "space": ReplayTable.read(options.table).space,
        "replay": options.table.resolve(),
        "epochs": epochs,
        "num_samples": options.trials,
        "max_concurrent": at_once,
        "sampler": sampler,
        "scheduler": scheduler,
        "seed": options.seed,
        "storage_path": storage,
        "tracking_uri": uri,
    }
    log = place / "log"
    whole, name = f"{sampler}-{scheduler}", f"{sampler}-{scheduler}-killed"
    if (code := start({**settings, "name": whole}, log).wait()) != 0:
        raise SystemExit(f"the undisturbed search ended with exit code {code}: {log.read_text()}")

    draw = random.Random(f"{options.seed} {name}")
    counts, before = Counts(), dict[str, TrialRecord]()
    victims = itertools.cycle(VICTIMS)
    # The search must still be running at every kill. It runs on for a dozen seconds after the death of the
    # raylet, and halving skips half of the epochs or more.
    spacing = options.trials * epochs // (options.kills * (2 if scheduler == "none" else 8))
    process = start({**settings, "name": name, "replay_seconds": options.seconds}, log)
    while counts.kills.total() < options.kills:
        if not wait(storage / name, process, draw.randint(1, max(1, spacing))):
            break
        time.sleep(draw.uniform(0, 2 * options.seconds))
        victim = next(victims)
        strike(victim, process, log, counts)
        now = trials(storage / name)
        compare(before, now, counts)
        counts.redone += sum(
            len(r.epochs) - saved(r, storage / name) for r in now.values() if r.status is Status.RUNNING
        )
        ended = Counter(record.status for record in now.values())
        print(f"  {whole}: {victim} killed, {dict(ended)}", flush=True)
        before = now
        process = start({"resume": name, "storage_path": storage}, log)
    if (code := process.wait()) != 0:
        raise SystemExit(f"the killed search ended with exit code {code}: {log.read_text()}")

    after, undisturbed = trials(storage / name), trials(storage / whole)
    compare(before, after, counts)
    configs = [canonical(record.config) for record in after.values()]
    counts.repeated += len(configs) - len(set(configs))
    twice, missing = runs_too_many(uri, name, after)
    document: dict[str, Any] = {
        "trials": len(after),
        "kills_survived": dict(counts.kills),
        "trials_lost": counts.lost,
        "trials_missing": options.trials - len(after),
        "trials_repeated": counts.repeated,
        "epochs_redone": counts.redone,
        "mlflow_runs_duplicated": twice,
        "mlflow_runs_missing": missing,
        "legs": sum(record.legs for record in after.values()),
        "drivers_that_hung": counts.hung,
        "how_drivers_ended": dict(counts.endings),
    }
    if same:
        document["same_configurations"] = configs == [canonical(r.config) for r in undisturbed.values()]
        document["same_front"] = front(after) == front(undisturbed)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path("benchmarks/tables/pmf_nas.parquet"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.7, help="how long an epoch takes")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one search, such as random/none")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kills.json"))
    options = parser.parse_args()

    document: dict[str, Any] = {
        "table": options.table.name,
        "seconds_an_epoch": options.seconds,
        "searches": {},
    }
    document |= {"epochs": options.epochs, "seed": options.seed}
    if options.only and options.out.exists():
        document["searches"] = json.loads(options.out.read_text())["searches"]
    for variant in VARIANTS:
        name = "/".join(variant[:2])
        if options.only not in (None, name):
            continue
        print(f"{name}, {variant[2]} at once", flush=True)
        with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as folder:
            document["searches"][name] = search(variant, Path(folder), options, options.epochs)
        for key, value in document["searches"][name].items():
            print(f"  {key.replace('_', ' ')}: {value}", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
