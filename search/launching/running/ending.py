"""Ends a cluster, and what ``ray down`` leaves on machines that stay."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator

from search.launching.running.cluster_file import ClusterFile
from search.launching.running.inventory import Inventory
from search.launching.running.machine import Machine, UnreachedError
from trainables.errors import UserError

#: Where Ray keeps the key on a head from which the head reaches the workers.
_KEY_ON_HEAD = "~/ray_bootstrap_key.pem"
#: Ends Ray of this user, and prints how many of its processes there were, and how many are left. The brackets
#: keep the shell that runs this from being counted.
_STOP_RAY = """
count() { pgrep -c -u "$(id -u)" -f 'ra[y]::|/raylet/rayle[t]|/ray/_privat[e]/'; }
before=$(count)
ray stop --grace-period 10 >/dev/null 2>&1
ray stop --force >/dev/null 2>&1
echo "$before $(count)"
"""
#: Closes the windows of `ray exec --tmux` in which searches have ended.
_CLOSE_WINDOWS = """
tmux list-panes -a -F '#{pane_id} #{pane_start_command}' 2>/dev/null | grep paretofuse/search.py |
    cut -d ' ' -f 1 | xargs -r -n 1 tmux kill-pane -t
"""
#: Time in seconds that a search has to end in order.
_GRACE = 60


def end(cluster: ClusterFile, head: Machine | None, inventory: Inventory | None) -> Iterator[str]:
    """End a cluster: its searches, MLflow, Ray on all nodes, and nodes that are rented.

    Args:
        cluster: The cluster.
        head: Its head; None if that is not found.
        inventory: What the head knows of the searches; None if it cannot be asked.

    Yields:
        Lines that say what was ended.

    Raises:
        UserError: If something is left.
    """
    if head is not None and inventory is not None:
        for search in inventory.searches:
            if search.pid is not None:
                head.run(_end_process(search.pid))
                yield f"ended search '{search.name}'; --resume goes on with it"
        if cluster.keeps_disks:
            head.run("bash ~/paretofuse/scripts/mlflow_on_head.sh stop")
            head.run(_CLOSE_WINDOWS)
            yield f"{head.address}: ended MLflow"
    command = ["ray", "down", "--yes", str(cluster.path)]
    if subprocess.run(command).returncode:
        raise UserError(f"`{shlex.join(command)}` failed; see above, and repeat it")
    yield f"{cluster.name}: `ray down` has ended the head{'' if cluster.keeps_disks else ' and the workers'}"
    left = []
    for worker in cluster.workers():
        try:
            yield f"{worker.address}: {_stop_ray(worker, head)}"
        except UnreachedError as error:
            yield f"{error}; if Ray runs there, `ray stop` ends it"
        except UserError as error:
            left.append(worker.address)
            yield f"{worker.address}: {error}"
    if left:
        raise UserError(f"Ray still runs on {', '.join(left)}; run `ray stop --force` there")


def _stop_ray(worker: Machine, head: Machine | None) -> str:
    """End Ray on a worker, which may be reached from the head alone; return what was ended, in words.

    Raises:
        UnreachedError: If the worker is not reached.
        UserError: If Ray still runs there.
    """
    try:
        printed = worker.run(_STOP_RAY)
    except UnreachedError as error:
        if head is None:
            raise
        there = Machine(worker.address, worker.user, _KEY_ON_HEAD)
        try:
            printed = head.run(there.command(_STOP_RAY))
        except UnreachedError:
            raise error from None
    before, after = map(int, printed.split())
    if after:
        raise UserError(f"{after} of {before} processes of Ray still run")
    return f"ended {before} processes of Ray" if before else "Ray did not run"


def _end_process(pid: int) -> str:
    """Return a shell command that ends a search in order, or else by force."""
    runs = f"ps -o stat= -p {pid} | grep -q '^[^Z]'"
    return f"kill {pid}; for i in $(seq {_GRACE}); do {runs} || exit 0; sleep 1; done; kill -KILL {pid}"
