"""The time that a search's driver spends per trial on asking, telling, recording, halving and tracking.

Recorded trials replace training on a simulated clock. Nothing waits, so the driver's calls follow each other
as fast as possible while a thread writes to MLflow. This is the worst case: in a search there are minutes
between the calls. All objects are the real ones and are called in Ray Tune's order, but Ray does not run. The
simulated clock advances by the time of the calls, too, so that nodes wait for the driver.

Wall time is the time spent in the driver's calls. It includes flushing each event to disk, which is also
measured alone, and waiting for the interpreter's lock while the tracking thread holds it. CPU time is the
computing time of the driver's own thread.

    python benchmarks/driver_time.py --table benchmarks/tables/pmf_nas.parquet
"""

from __future__ import annotations

import argparse
import gc
import heapq
import itertools
import json
import multiprocessing
import socket
import tempfile
import threading
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import optuna
import psutil
from kept import kept_document
from rich.console import Console

from search.backends.recorded import ReplayBackend
from search.config import SearchConfig
from search.engine.searcher import ParetoSearcher
from search.execution.cleaning import Cleaner
from search.nodes import Node
from search.placement import place
from search.process import prepared_process
from search.records.store import SearchStore
from search.replay import ReplayTable
from search.reporting.progress import Progress
from search.reporting.tracker import Tracker
from search.setup import look_up, set_up

GOAL = 20.0  # ms a trial
SAMPLERS = ("random", "tpe", "nsga2", "evolution")
SCHEDULERS = ("none", "pareto_asha")
MEMORY_AT = (1000, 2500, 5000)
SLOW = 2.0  # seconds until the slow server answers with an error


class Stopwatch:
    """Adds up the time of calls by part. The time of a nested timed call counts for the inner call only."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._inner: list[list[float]] = []
        self._thread = threading.get_ident()

    def watch(self, thing: Any, names: str, part: str) -> None:
        """Time the calls of an object's methods, whose names are separated by spaces, as one part."""
        for name in names.split():
            setattr(thing, name, self._timed(getattr(thing, name), part))

    def _timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._thread:
                return call(*arguments, **options)
            self._inner.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                inner = self._inner.pop()
                self.wall[part] += wall - inner[0]
                self.cpu[part] += cpu - inner[1]
                if self._inner:
                    self._inner[-1][0] += wall
                    self._inner[-1][1] += cpu

        return timed


def slow_server() -> str:
    """Start a server that answers every request late and with an error; return its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(SLOW)
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def dead_server() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@dataclass(frozen=True)
class Simulated:
    """The cluster of a search on a simulated clock.

    Attributes:
        nodes: Its machines.
        gpus_per_trial: Share of a GPU that each trial gets; None if there are none.
        trial_seconds: Mean length of a trial; None is that of the recorded trials.
        event_seconds: What the driver is busy with for each epoch, apart from its calls that are timed.
    """

    nodes: Sequence[Node]
    gpus_per_trial: float | None = None
    trial_seconds: float | None = None
    event_seconds: float = 0.0


def run(
    table: str, sampler: str, scheduler: str, server: str, trials: int, cluster: Simulated
) -> dict[str, Any]:
    """Run one search; return the times of its driver."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="driver-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        uri = {"dead": dead_server, "slow": slow_server}.get(
            server, lambda: f"sqlite:///{folder}/mlflow.db"
        )()
        config = SearchConfig(
            space="pmf_nas",
            replay=table,
            target=ReplayTable.read(table).setting.target,
            epochs=8,
            sampler=sampler,
            scheduler=scheduler,
            num_samples=trials,
            name="timed",
            storage_path=str(folder),
            tracking_uri=uri,
        )
        with prepared_process():
            return _timed(config, folder, cluster)


def _timed(config: SearchConfig, folder: Path, cluster: Simulated) -> dict[str, Any]:
    console = Console(quiet=True)
    setup = set_up(look_up(config).in_precision("fp32"), console)
    assert isinstance(setup.backend, ReplayBackend)
    recorded = setup.backend.table
    tracker = Tracker(config, setup.history, setup.details, "search", lambda _: None)
    placement = place(cluster.nodes, config.search.num_samples, gpus_per_trial=cluster.gpus_per_trial)
    searcher = ParetoSearcher(setup, placement, SearchStore.create(folder / "timed", {}))
    progress = Progress(console, setup.history, config.search.num_samples, config.trial.epochs)
    cleaner = Cleaner(searcher.recorder, str(folder / "timed"), lambda: True, console.print)
    searcher.recorder.listeners += [tracker, progress, cleaner]
    tracker.begin()

    flush = time.perf_counter()
    for number in range(100):
        with searcher.store.transaction():
            searcher.store.put_facts({"written to measure the disk": number})
    flush = time.perf_counter() - flush

    watch = Stopwatch()
    watch.watch(searcher, "suggest", "asking")
    watch.watch(searcher, "on_trial_complete", "telling")
    watch.watch(searcher.recorder, "start report save", "recording")
    watch.watch(setup.rule, "note goes_on promote", "halving")
    watch.watch(tracker, "started reported ended", "tracking")
    watch.watch(setup.history, "front hypervolume", "front")
    watch.watch(progress, "started reported ended", "progress")
    watch.watch(cleaner, "started reported ended", "cleaning")

    names, order = (f"leg{number}" for number in itertools.count()), itertools.count()
    running: list[tuple[float, int, str, int]] = []  # time, counter to break ties, trial, epoch
    clock, ended, worked, waited = 0.0, 0, 0.0, 0.0
    free: deque[float] = deque()  # since when
    stretch = 1.0 if cluster.trial_seconds is None else cluster.trial_seconds / mean_seconds(recorded)
    process, others = psutil.Process(), time.process_time() - time.thread_time()
    last_wall, last_ended, resident = 0.0, 0, {}

    def schedule(tune_id: str, epoch: int, since: float) -> None:
        nonlocal worked, waited
        row = recorded.nearest(searcher.history.leg(tune_id).config)
        seconds = row.epochs[epoch - 1]["epoch_seconds"] * stretch
        worked, waited = worked + seconds, waited + clock - since
        heapq.heappush(running, (clock + seconds, next(order), tune_id, epoch))

    while True:
        while len(running) < placement.concurrent:
            tune_id, began = next(names), time.perf_counter()
            handed = searcher.suggest(tune_id)
            if not isinstance(handed, dict):
                break
            searcher.recorder.start(tune_id, "actor")
            clock += time.perf_counter() - began
            schedule(
                tune_id, len(searcher.history.leg(tune_id).epochs) + 1, free.popleft() if free else clock
            )
        if not running:
            break
        at, _, tune_id, epoch = heapq.heappop(running)
        clock = max(clock, at) + cluster.event_seconds  # the driver may still be busy with what came before
        began = time.perf_counter()
        record = searcher.history.leg(tune_id)
        result = dict(recorded.nearest(record.config).epochs[epoch - 1])
        stops = not searcher.recorder.report(tune_id, result) or epoch == config.trial.epochs
        searcher.recorder.save(tune_id, f"{record.trial_id}/checkpoint_{epoch:06d}")
        if stops:
            searcher.on_trial_complete(tune_id, result)
        clock += time.perf_counter() - began
        if not stops:
            schedule(tune_id, epoch + 1, at)
            continue
        free.append(at)
        ended += 1
        if ended == config.search.num_samples - 100:
            last_wall, last_ended = sum(watch.wall.values()), ended
        if ended in MEMORY_AT:
            gc.collect()
            resident[str(ended)] = process.memory_info().rss / 2**20
    written = time.process_time() - time.thread_time() - others
    started = time.perf_counter()
    took_all = tracker.close("FINISHED", {}, None, patience=0 if config.tracking.address.is_server else 120)
    trials = len(searcher.history.trials)
    total = sum(watch.wall.values())
    return {
        "trials": trials,
        "waiting_for_the_driver": waited / (worked + waited),
        "epochs": sum(len(record.epochs) for record in searcher.history.trials.values()),
        "wall_ms": 1000 * total / trials,
        "cpu_ms": 1000 * sum(watch.cpu.values()) / trials,
        "wall_ms_of_the_last_hundred": 1000 * (total - last_wall) / max(1, ended - last_ended),
        "wall_ms_by_part": {part: 1000 * seconds / trials for part, seconds in watch.wall.items()},
        "cpu_ms_by_part": {part: 1000 * seconds / trials for part, seconds in watch.cpu.items()},
        "disk_flush_ms": 1000 * flush / 100,
        "tracking_thread_cpu_ms": 1000 * written / trials,
        "mlflow_took_everything": took_all,
        "seconds_to_close": time.perf_counter() - started,
        "resident_mib": resident,
    }


def mean_seconds(table: ReplayTable) -> float:
    """Return the mean length of the trials of a table."""
    return sum(epoch["epoch_seconds"] for row in table.rows for epoch in row.epochs) / len(table.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="benchmarks/tables/pmf_nas.parquet")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--trials-at-once", type=int, default=8)
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS))
    parser.add_argument("--servers", default="sqlite,dead,slow")
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"also run {max(MEMORY_AT):,} trials, and measure the driver's memory",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/driver_time.json"))
    options = parser.parse_args()

    servers = options.servers.split(",")
    chosen = itertools.product(options.samplers.split(","), options.schedulers.split(","))
    jobs = [
        (sampler, scheduler, "sqlite", options.trials) for sampler, scheduler in chosen if "sqlite" in servers
    ]
    jobs += [("random", "none", server, options.trials) for server in servers if server != "sqlite"]
    if options.memory and max(MEMORY_AT) > options.trials:
        jobs.append(("random", "none", "sqlite", max(MEMORY_AT)))
    settings = {"table": Path(options.table).name, "at_once": options.trials_at_once}
    document: dict[str, Any] = {**settings, "searches": {}}
    document |= kept_document(parser, options.out, settings)  # searches that are not run again stay
    document["goal_ms"] = GOAL
    parts = ("asking", "telling", "recording", "halving", "tracking", "front", "progress", "cleaning")
    print(
        f"{'ms a trial, wall':44}{'all':>8}{'CPU':>8}{'last 100':>10}{'flush':>8}"
        + "".join(f"{p:>10}" for p in parts)
    )
    # Each search has its own process, so that memory is measured for it alone
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for sampler, scheduler, server, trials in jobs:
            cluster = Simulated([Node(cpus=options.trials_at_once)])
            arguments = (options.table, sampler, scheduler, server, trials, cluster)
            row = pool.apply(run, arguments)
            name = f"{sampler}/{scheduler}, {trials} trials, MLflow {server}"
            document["searches"][name] = row
            cells = "".join(f"{row['wall_ms_by_part'].get(part, 0):10.2f}" for part in parts)
            numbers = f"{row['wall_ms']:8.1f}{row['cpu_ms']:8.1f}{row['wall_ms_of_the_last_hundred']:10.1f}"
            numbers += f"{row['disk_flush_ms']:8.2f}"
            print(f"{name:44}{numbers}{cells}", flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(document, indent=1))
            if row["resident_mib"] and trials == max(MEMORY_AT):
                sizes = ", ".join(f"{mib:.0f} MiB at {count}" for count, mib in row["resident_mib"].items())
                print(f"memory of the driver: {sizes}")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
