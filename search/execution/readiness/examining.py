"""Examines machines: whether trials run on them as on the one that runs the search."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import ray
from ray._private.state import available_resources_per_node

from search.backends.base import Provisions
from search.execution.readiness import there
from search.execution.readiness.asking import Questions, in_words
from search.execution.readiness.differences import Difference, of_code, of_provisions
from search.execution.readiness.facts import NodeFacts, facts_here
from search.execution.readiness.meeting import meeting
from search.nodes import Node, node_ids
from search.records.place import Place

#: Seconds in which machines must answer: processes start and import torch there, and files are read.
ANSWER_SECONDS = 90.0
#: Seconds that GPUs have to show that they work.
_CUDA_SECONDS = 60.0


@dataclass
class Examiner:
    """Examines machines of the cluster.

    Attributes:
        place: The place of the search, which all machines must see.
        provisions: What trials need; None if all of it comes with them.
        on_gpus: Whether trials compute on GPUs.
        here: The machine of this process.
        known: Ids of the machines that were in the cluster when the search looked at it first.
        facts: What is known of each machine that has been examined, by node id.
        late: Machines that had not compared their data in time in the last examination.
        ended: Set, from another thread, if answers are of no interest any more.
    """

    place: Place
    provisions: Provisions | None
    on_gpus: bool
    here: NodeFacts
    known: frozenset[str]
    facts: dict[str, NodeFacts] = field(default_factory=dict)
    late: list[NodeFacts] = field(default_factory=list)
    ended: Event = field(default_factory=Event)

    @classmethod
    def of(
        cls, place: Place, provisions: Provisions | None, nodes: Sequence[Node], *, on_gpus: bool
    ) -> Examiner:
        """Return an examiner that knows the machine on which it is, one of those of the cluster."""
        own = ray.get_runtime_context().get_node_id()
        here = facts_here(next((node for node in nodes if node.node_id == own), Node(0.0, node_id=own)))
        known = frozenset(node.node_id for node in nodes)
        return cls(place, provisions, on_gpus, here, known, {own: here})

    def examine(self, nodes: Sequence[Node], seconds: float = ANSWER_SECONDS) -> list[Difference]:
        """Ask machines all questions at once, and return in what they differ from this one.

        This machine itself is only asked about its GPUs. A machine that has the right program, but needs
        longer to read its data, does not differ: the first trial there compares them.

        Args:
            nodes: The machines.
            seconds: Most seconds to wait for answers.

        Raises:
            UserError: If nothing can be written into the storage.
        """
        others = [node for node in nodes if node.node_id != self.here.node_id]
        needed = None if self.provisions is None else pickle.dumps(self.provisions)
        questions = Questions()
        with meeting(self.place) as shared:
            for node in others:
                questions.add(node, "facts", there.facts)
                questions.add(node, "storage", there.meet, *shared.invitation(node))
                if needed is not None:
                    questions.add(node, "provisions", there.lacks, needed)
            if self.on_gpus:
                idle = _with_idle_gpus(nodes)
                for node in nodes:
                    questions.add(node, "CUDA", there.cuda, _CUDA_SECONDS, idle=node.node_id in idle)
            questions.wait(seconds, self.ended.is_set)
            for node in others:
                if questions.answers.get((node.node_id, "storage"), "") is None and not shared.has_come(node):
                    questions.answers[node.node_id, "storage"] = "is another one: what it wrote is not here"
        if self.ended.is_set():
            return []
        self.late.clear()
        found: list[Difference] = []
        alive = node_ids()
        for node in nodes:
            if node.node_id not in alive:
                continue
            answers = {name: answer for (of, name), answer in questions.answers.items() if of == node.node_id}
            found += self._on_gpus(node, answers)
            if node in others:
                found += self._differences(node, answers, seconds)
        return found

    def _differences(self, node: Node, answers: Mapping[str, Any], seconds: float) -> Iterator[Difference]:
        told = answers.get("facts")
        facts = self.facts[node.node_id] = NodeFacts.of(node, told if isinstance(told, dict) else None)
        if not isinstance(told, dict):
            mend = "restart Ray there, or take it out of the cluster"
            yield Difference(facts, "answers", in_words(told, seconds), "come at once", mend)
            return
        yield from of_code(facts, self.here)
        storage = answers.get("storage", f"no answer in {seconds:.0f} s")
        if storage is not None:
            mend = "mount the same folder on all machines, or give --storage-path s3://BUCKET/FOLDER"
            what = storage if isinstance(storage, str) else in_words(storage, seconds)
            yield Difference(facts, f"storage {self.place.storage}", what, "all write to one", mend)
        if self.provisions is not None and "provisions" not in answers:
            self.late.append(facts)
        lacking = answers.get("provisions", ())
        if isinstance(lacking, Exception):
            lacking = [("data and encoders", in_words(lacking, seconds))]
        if facts.code != self.here.code:  # then it is no wonder if that cannot even be said
            lacking = [(what, reason) for what, reason in lacking if what != there.PROGRAM]
        if self.provisions is not None:
            yield from of_provisions(facts, lacking, self.provisions)

    def _on_gpus(self, node: Node, answers: Mapping[str, Any]) -> Iterator[Difference]:
        if not self.on_gpus or answers.get("CUDA", "") is None:
            return
        mend = "install a driver and a torch that fit the GPU, or start Ray there with --num-gpus=0"
        found = in_words(answers["CUDA"], _CUDA_SECONDS)
        yield Difference(NodeFacts.of(node), "CUDA", found, f"{node.gpus} GPUs work", mend)


def _with_idle_gpus(nodes: Sequence[Node]) -> set[str]:
    """Return the ids of machines of whose GPUs Ray has given nothing away."""
    left = available_resources_per_node()
    return {node.node_id for node in nodes if left.get(node.node_id, {}).get("GPU", 0) >= node.gpus}
