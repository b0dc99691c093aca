"""Asks machines of the cluster something, all at once, and does not wait longer than it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import cloudpickle

from search.execution.readiness import there
from search.execution.readiness.facts import NodeFacts
from search.nodes import Node, start_on
from trainables.trial.outcome import last_line

#: Seconds in which a machine must say what it is: its first process may have to be started.
FACTS_SECONDS = 60.0

#: Seconds for which answers are waited for at a time.
_SLICE = 0.2

# A machine need not have these functions, or may have others of the same name.
cloudpickle.register_pickle_by_value(there)


@dataclass
class Questions:
    """Questions to machines, which are asked as soon as they are added.

    Attributes:
        answers: The answers that have come, by machine and name of the question. One that failed is an error.
    """

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _asked: dict[Any, tuple[str, str]] = field(default_factory=dict)

    def add(
        self, node: Node, name: str, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> None:
        """Ask a machine.

        Args:
            node: The machine.
            name: Name of the question.
            function: One of those of ``there``, which the machine calls.
            arguments: Its arguments.
            options: Its arguments that have names.
        """
        self._asked[start_on(node.node_id, function, *arguments, **options)] = node.node_id, name

    def wait(self, seconds: float, ended: Callable[[], bool] = lambda: False) -> None:
        """Take the answers that come in time, and withdraw the other questions.

        Args:
            seconds: Most seconds to wait.
            ended: Returns whether the answers are of no interest any more.
        """
        until = time.monotonic() + seconds
        while self._asked and time.monotonic() < until and not ended():
            for answered in ray.wait(list(self._asked), timeout=_SLICE)[0]:
                self._take(answered)
        for late in self._asked:
            ray.cancel(late, force=True)
        self._asked.clear()

    def _take(self, answered: Any) -> None:
        key = self._asked.pop(answered)
        try:
            self.answers[key] = ray.get(answered)
        except ray.exceptions.RayError as error:
            self.answers[key] = error


def ask_facts(nodes: Sequence[Node], seconds: float = FACTS_SECONDS) -> list[NodeFacts]:
    """Return what machines are and with what they run trials; without versions if there is no answer."""
    questions = Questions()
    for node in nodes:
        questions.add(node, "facts", there.facts)
    questions.wait(seconds)
    found = (questions.answers.get((node.node_id, "facts")) for node in nodes)
    return [
        NodeFacts.of(node, answer if isinstance(answer, dict) else None)
        for node, answer in zip(nodes, found, strict=True)
    ]


def in_words(answer: Any, seconds: float) -> str:
    """Return an answer that is no good: the text, what its error says, or that it took too long."""
    if isinstance(answer, Exception):
        return last_line(answer)
    return str(answer) if answer else f"no answer in {seconds:.0f} s"
