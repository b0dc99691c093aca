"""Examines the machines that join a cluster while a search runs, and keeps those out that differ."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ray.exceptions import RayError

from search.execution.readiness.differences import Difference
from search.execution.readiness.examining import Examiner
from search.execution.readiness.ready import usable
from search.nodes import find_nodes, node_ids
from search.placement import Placement
from trainables.errors import UserError

#: Seconds between two looks at the cluster.
LOOK_SECONDS = 5.0


def watching(
    examiner: Examiner | None, placement: Placement, say: Callable[[str], None]
) -> AbstractContextManager[Any]:
    """Return a context in which new machines are examined; None examines none."""
    return nullcontext() if examiner is None else Watch(examiner, placement, say)


class Watch:
    """Looks for new machines, in a thread, for as long as the ``with`` statement runs.

    Ray may give a trial to a new machine before it was examined. Such a trial looks for itself.

    Args:
        examiner: Examines machines, and knows those that were there before.
        placement: Keeps trials away from machines.
        say: Called with a line for the user.
    """

    def __init__(self, examiner: Examiner, placement: Placement, say: Callable[[str], None]) -> None:
        self.examiner = examiner
        self.placement = placement
        self.say = say
        self._seen = set(examiner.known)
        self._ended = examiner.ended
        self._thread = threading.Thread(target=self._run, name="new nodes", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Examine the machines that have joined since the last look."""
        new = node_ids() - self._seen
        if not new:
            return
        self._seen |= new
        nodes = find_nodes()
        joined = [node for node in usable(nodes, self.placement) if node.node_id in new]
        joined = [node for node in joined if node.node_id not in self.placement.kept_out]
        by_node: dict[str, list[Difference]] = {}
        for found in self.examiner.examine(joined) if joined else []:
            by_node.setdefault(found.node.node_id, []).append(found)
        for node_id, differences in by_node.items():
            self.placement.keep_out(node_id)
            reasons = "; ".join(found.sentence for found in differences)
            self.say(f"{differences[0].node.name} has joined and gets no trials: {reasons}")
            for mend in dict.fromkeys(found.mend for found in differences if found.mend):
                self.say(f"  what mends it, before Ray is started there again: {mend}")
        left = {node.node_id for node in usable(nodes, self.placement)} - {*self.placement.kept_out}
        if by_node and not left:
            self.say("no node is left that gets trials; the search waits for others to join")

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except UserError as error:  # the storage cannot be used; trials will say so, too
                self.say(str(error))
            except RayError:  # the cluster cannot be asked at the moment
                pass
            self._ended.wait(LOOK_SECONDS)
