"""How a search's speed, and the load of its driver, grow with the number of nodes.

Trials are replayed from a table, one on each node at a time. A replayed epoch sleeps, so that nodes that
share one machine do not share its cores.

Measured: real Ray clusters on this machine, of a head that runs no trial and up to eight more raylets with
one logical GPU each. A node is busy for the share of the time, from its first report to its last one, that
its epochs take. Speed-up compares the epochs a second of all nodes, each in that time, with those of one
node. The start of the worker processes is left out, because here all of them start on the same few cores. The
whole time is that from the start of the first trial to the last report. A further cluster has epochs so short
that its driver gets as many events a second as it would get from 64 nodes.

Simulated: the driver's own objects (searcher, sampler, recorder, store, tracker) on a simulated clock, see
``driver_time.py``, with up to 64 nodes and no Ray.

Extrapolated: the driver's load, and how busy nodes are, beyond the nodes that can run here. To what the
driver's own calls take in the simulation is added what Ray and Ray Tune took of it in the cluster with as
many events a second. This says nothing about Ray's own processes on so many nodes. How long nodes wait for
the driver is counted in wall time: if other programs use the cores, it is too long.

    python benchmarks/scale.py
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from driver_time import Simulated, Stopwatch
from driver_time import run as simulate
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table

from search import SearchConfig, run_search
from search.engine.recorder import Recorder
from search.engine.searcher import ParetoSearcher
from search.execution.cleaning import Cleaner
from search.nodes import Node
from search.replay import ReplayTable
from search.reporting.progress import Progress
from search.reporting.tracker import Tracker

EPOCHS = 8
#: Nodes that one machine is to stand for, and seconds of their trials.
GOAL_NODES, GOAL_SECONDS = 64, 60.0
GOAL_EFFICIENCY, GOAL_LOAD = 0.9, 0.5
#: Bytes of each raylet's object store: trials put nothing into it.
STORE = 80 * 2**20


class Observed:
    """What a search's driver does from the first report of a trial to the last one.

    Args:
        gcs: Process id of the cluster's GCS server.
    """

    def __init__(self, gcs: int) -> None:
        self.watch = Stopwatch()
        self.handed_out: list[float] = []
        self.reports: dict[str, list[float]] = defaultdict(list)  # by worker
        self._gcs = psutil.Process(gcs)
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        for kind, names, part in (
            (ParetoSearcher, "suggest", "asking"),
            (ParetoSearcher, "on_trial_complete", "telling"),
            (Recorder, "start report save", "recording"),
            (Tracker, "started reported ended", "tracking"),
            (Progress, "started reported ended", "progress"),
            (Cleaner, "started reported ended", "cleaning"),
        ):
            self.watch.watch(kind, names, part)
        for name, hear in (("start", self._started), ("report", self._reported)):
            setattr(Recorder, name, _heard(getattr(Recorder, name), hear))

    def _started(self, recorder: Recorder, tune_id: str) -> None:
        self.handed_out.append(time.monotonic())

    def _reported(self, recorder: Recorder, tune_id: str) -> None:
        self.reports[recorder.history.leg(tune_id).worker or ""].append(time.monotonic())
        self._last = self._counted()
        self._first = self._first or self._last

    def _counted(self) -> dict[str, float]:
        """Return CPU seconds so far, by what took them; ``driver`` is all of the process."""
        ours = dict(self.watch.cpu)
        gcs = self._gcs.cpu_times()
        used = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}
        writers = sum(used.get(t.native_id or 0, 0.0) for t in threading.enumerate() if t.name == "mlflow")
        main, all_of_it = time.thread_time(), time.process_time()
        return {
            **ours,
            "Ray Tune": main - sum(ours.values()),
            "MLflow's thread": writers,
            "Ray's threads": all_of_it - main - writers,
            "driver": all_of_it,
            "GCS": gcs.user + gcs.system,
        }

    def summary(self, epoch_seconds: float, trials: int) -> dict[str, Any]:
        """Return rates, efficiency and CPU seconds."""
        rates = [
            (len(times) - 1) / (times[-1] - times[0]) for times in self.reports.values() if len(times) > 1
        ]
        all_times = sorted(moment for times in self.reports.values() for moment in times)
        epochs, passed = len(all_times), all_times[-1] - all_times[0]
        cpu = {part: seconds - self._first.get(part, 0.0) for part, seconds in self._last.items()}
        driver = cpu.pop("driver")
        return {
            "workers": len(rates),
            "trials": trials,
            "epochs": epochs,
            "epochs_a_second": sum(rates),
            "efficiency": sum(rates) / len(rates) * epoch_seconds,
            "whole_seconds": all_times[-1] - min(self.handed_out),
            "driver_load": driver / passed,
            "driver_cpu_ms_an_epoch": 1000 * driver / epochs,
            "driver_cpu_ms_a_trial": 1000 * driver / epochs * EPOCHS,
            "cpu_ms_a_trial": {part: 1000 * seconds / epochs * EPOCHS for part, seconds in cpu.items()},
            "gcs_load": cpu["GCS"] / passed,
        }


def _heard(call: Callable[..., Any], hear: Callable[[Recorder, str], None]) -> Callable[..., Any]:
    """Return a method of recorders that is heard of before it is called."""

    def heard(recorder: Recorder, tune_id: str, *arguments: Any) -> Any:
        hear(recorder, tune_id)
        return call(recorder, tune_id, *arguments)

    return heard


def searched(address: str, gcs: int, table: str, trials: int, epoch_seconds: float) -> dict[str, Any]:
    """Run a search on a cluster in this process; return what its driver did."""
    observed = Observed(gcs)
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as folder:
        config = SearchConfig(
            space="pmf_nas",
            replay=table,
            replay_seconds=epoch_seconds,
            target=ReplayTable.read(table).setting.target,
            epochs=EPOCHS,
            num_samples=trials,
            gpus_per_trial=1.0,
            address=address,
            name="timed",
            storage_path=folder,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
        )
        result = run_search(config, console=Console(quiet=True))
    return observed.summary(epoch_seconds, result.trials)


def measure(nodes: int, table: str, trials: int, epoch_seconds: float) -> dict[str, Any]:
    """Run a search on a new cluster; return what its driver did."""
    raylet = {"include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **raylet})
    try:
        for _ in range(nodes):
            cluster.add_node(wait=False, num_cpus=1, num_gpus=1, **raylet)
        cluster.wait_for_nodes(120)
        processes = cluster.head_node.all_processes[ray._private.ray_constants.PROCESS_TYPE_GCS_SERVER]
        # A driver of its own, so that its times are those of one search
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            arguments = (cluster.address, processes[0].process.pid, table, trials, epoch_seconds)
            row = pool.apply(searched, arguments)
    finally:
        cluster.shutdown()
    return {"nodes": nodes, "epoch_seconds": epoch_seconds, **row}


def extrapolate(nodes: int, table: str, sampler: str, trials: int, busy: dict[str, Any]) -> dict[str, Any]:
    """Simulate a search, and add what Ray took of the driver in a real one.

    Args:
        nodes: Number of nodes.
        table: The recorded trials.
        sampler: Name of the sampler.
        trials: Number of trials.
        busy: A measured search with as many events a second.
    """
    by_ray = sum(busy["cpu_ms_a_trial"][part] for part in ("Ray Tune", "Ray's threads"))
    machines = [Node(cpus=1.0, gpus=1, node_id=str(number), name=str(number)) for number in range(nodes)]
    cluster = Simulated(machines, 1.0, GOAL_SECONDS, busy["cpu_ms_a_trial"]["Ray Tune"] / EPOCHS / 1000)
    # A process of its own, so that nothing is left of the search before
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        row = pool.apply(simulate, (table, sampler, "none", "sqlite", trials, cluster))
    own = row["cpu_ms"] + row["tracking_thread_cpu_ms"]
    efficiency = 1 - row["waiting_for_the_driver"]
    return {
        "nodes": nodes,
        "sampler": sampler,
        "trials": row["trials"],
        "trial_seconds": GOAL_SECONDS,
        "simulated_cpu_ms_a_trial": own,
        "simulated_cpu_ms_by_part": {
            **row["cpu_ms_by_part"],
            "MLflow's thread": row["tracking_thread_cpu_ms"],
        },
        "extrapolated": {
            "cpu_ms_a_trial": own + by_ray,
            "driver_load": (own + by_ray) / 1000 * nodes * efficiency / GOAL_SECONDS,
            "efficiency": efficiency,
        },
    }


def tables(document: dict[str, Any]) -> list[Table]:
    """Return the results as tables."""
    measured = Table(
        title=f"Measured: raylets on this machine, trials of {EPOCHS} epochs", title_justify="left"
    )
    for heading in (
        "nodes\n",
        "trial\ns",
        "trials\n",
        "speed-up\n",
        "of linear\n",
        "nodes\nbusy",
        "whole\ns",
        "driver\nms CPU an epoch",
        "\nms CPU a trial",
        "\nof a core",
        "GCS\nof a core",
    ):
        measured.add_column(heading, justify="right")
    for row in document["measured"]:
        measured.add_row(
            str(row["nodes"]),
            f"{row['epoch_seconds'] * EPOCHS:.1f}",
            str(row["trials"]),
            *((f"{row['speed_up']:.2f}", f"{row['of_linear']:.3f}") if "speed_up" in row else ("", "")),
            f"{row['efficiency']:.3f}",
            f"{row['whole_seconds']:.0f}",
            f"{row['driver_cpu_ms_an_epoch']:.1f}",
            f"{row['driver_cpu_ms_a_trial']:.0f}",
            f"{row['driver_load']:.3f}",
            f"{row['gcs_load']:.3f}",
        )
    parts = Table(title="Measured: where the driver's CPU time goes, ms a trial", title_justify="left")
    names = list(dict.fromkeys(part for row in document["measured"] for part in row["cpu_ms_a_trial"]))
    for heading in ("nodes", "trial s", *names):
        parts.add_column(heading, justify="right")
    for row in document["measured"]:
        cells = (f"{row['cpu_ms_a_trial'].get(part, 0.0):.1f}" for part in names)
        parts.add_row(str(row["nodes"]), f"{row['epoch_seconds'] * EPOCHS:.1f}", *cells)
    beyond = Table(
        title=f"Simulated, without Ray, and extrapolated with it: trials of {GOAL_SECONDS:.0f} s",
        title_justify="left",
    )
    for heading in (
        "sampler\n",
        "nodes\n",
        "trials\n",
        "simulated\nms CPU a trial",
        "extrapolated\nms CPU a trial",
        "extrapolated\nof a core",
        "extrapolated\nnodes busy",
    ):
        beyond.add_column(heading, justify="right")
    for row in document["simulated"]:
        found = row["extrapolated"]
        beyond.add_row(
            row["sampler"],
            str(row["nodes"]),
            str(row["trials"]),
            f"{row['simulated_cpu_ms_a_trial']:.1f}",
            f"{found['cpu_ms_a_trial']:.0f}",
            f"{found['driver_load']:.3f}",
            f"{found['efficiency']:.3f}",
        )
    return [measured, parts, beyond]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", default="benchmarks/tables/pmf_nas.parquet")
    parser.add_argument("--nodes", default="1,2,4,8", help="of the real clusters (default: %(default)s)")
    parser.add_argument("--trials-a-node", type=int, default=3, help="on them (default: %(default)s)")
    parser.add_argument("--trial-seconds", type=float, default=GOAL_SECONDS, help="(default: %(default)s)")
    parser.add_argument("--simulated-nodes", default="16,32,64", help="(default: %(default)s)")
    parser.add_argument("--simulated-trials", type=int, default=320, help="(default: %(default)s)")
    parser.add_argument("--samplers", default="ehvi,random", help="simulated (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.json"))
    options = parser.parse_args()
    epoch_seconds = options.trial_seconds / EPOCHS
    nodes = [int(number) for number in options.nodes.split(",")]
    document: dict[str, Any] = {
        "table": Path(options.table).name,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "ray": ray.__version__,
        "goals": {
            "of_linear": {"nodes": 8, "at_least": GOAL_EFFICIENCY},
            "driver_load": {"nodes": GOAL_NODES, "trial_seconds": GOAL_SECONDS, "below": GOAL_LOAD},
        },
        "measured": [],
        "simulated": [],
    }

    def add(kind: str, row: dict[str, Any]) -> None:
        document[kind].append(row)
        document["machine"]["load_average"] = os.getloadavg()[2]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1) + "\n")

    for number in nodes:
        row = measure(number, options.table, number * options.trials_a_node, epoch_seconds)
        first = document["measured"][0] if document["measured"] else row
        speed_up = row["epochs_a_second"] / first["epochs_a_second"] * first["nodes"]
        add("measured", {**row, "speed_up": speed_up, "of_linear": speed_up / number})
    most = nodes[-1]
    # As many events a second as the goal's nodes would cause
    short = epoch_seconds * most / GOAL_NODES
    busy = measure(most, options.table, 4 * most * options.trials_a_node, short)
    add("measured", {**busy, "as_busy_as_nodes": GOAL_NODES})
    for sampler in options.samplers.split(","):
        for number in map(int, options.simulated_nodes.split(",")):
            add("simulated", extrapolate(number, options.table, sampler, options.simulated_trials, busy))
    for table in tables(document):
        Console().print(table)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
